"""The node agent: ships the spools of one node, heartbeats for its writers."""
