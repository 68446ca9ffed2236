"""Consul's HTTP API, as much of it as promring needs: client, health watch, registration."""
