"""Queries across hosts: a server asks the worker that has a user's partition for the user's tokens."""
