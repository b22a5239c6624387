"""Refusals in the form in which S3 answers."""

from __future__ import annotations

from tests.support.scripted_server import refusal

NOT_IMPLEMENTED = refusal(501, "NotImplemented", "A header you provided implies functionality that is not")
DENIED = refusal(403, "AccessDenied", "Access Denied")
NO_BUCKET = refusal(404, "NoSuchBucket", "The specified bucket does not exist")
