"""Checks of an installation: is all there that an audit needs, and does it compute?"""
