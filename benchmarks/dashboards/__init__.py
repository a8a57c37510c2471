"""Pictures of the Grafana dashboards, made without a Grafana: each panel's real answer in the dashboard's own layout.

`python -m benchmarks.dashboards` runs a study on the test cluster and draws it; with `--prometheus` it draws what any
Prometheus has of a study. Panels are read from the chart's JSON, so what is seen is what Grafana would ask; colours and
fonts are only near to Grafana's.
"""
