"""Somebody's file of tags → journal, once."""
