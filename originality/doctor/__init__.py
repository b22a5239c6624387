"""Checks of an installation: whether everything that an audit needs is present and works."""
