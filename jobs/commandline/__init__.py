"""Shared by all commands: process set-up, options, exit codes."""
