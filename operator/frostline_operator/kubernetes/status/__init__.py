"""What people and monitoring see of a study: status, conditions, HPOTrials, events and metrics."""
