"""Alerts: what raises them (`run.alert()`, rules), who is told, and the delivery."""
