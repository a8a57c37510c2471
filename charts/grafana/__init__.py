"""The Grafana dashboards as code. `make dashboards` writes them into the chart; a test compares.

Each module is one dashboard; `panels` has what they share. Every expression is run against a real Prometheus by
`tests/e2e/test_dashboards.py`.
"""
