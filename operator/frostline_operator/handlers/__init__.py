"""The Kopf front door: watches studies and lets each of them tick. It decides nothing."""
