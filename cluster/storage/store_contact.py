"""Finds out whether what answers at a bucket's URL is an object store and has the bucket.

A login page, a proxy or a web console may answer in its place, and some of their answers look like those of a
store. Only a doubtful answer is looked into, as that costs a further request.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import obstore
from obstore.store import ObjectStore

from cluster.storage.aws import S3Access, s3_errors
from cluster.storage.store_errors import (
    Answer,
    Misdirected,
    NotFound,
    Outage,
    Refused,
    driver_errors,
    looks_like_a_page,
    not_a_store,
)

ABSENT_KEY = "originality-asks-whether-this-store-answers"
"""A key at which no object is expected."""


class Contact:
    """What is known of the service behind a bucket's URL."""

    def __init__(self, url: str, objects: ObjectStore, s3: S3Access | None) -> None:
        self.answered = False
        """Whether the service has answered any request."""
        self._url = url
        self._objects = objects
        self._s3 = s3
        self._identified = False
        self._listed = s3 is None

    @contextmanager
    def checked(self, path: str) -> Iterator[None]:
        """Make one request in the context; an answer that may not be a store's is looked into."""
        try:
            with driver_errors(self._url, path):
                yield
        except NotFound as missing:
            self.answered = True
            if not missing.code:  # such as of a HEAD, whose answer has no body: the bucket may be missing
                self._identify()
            raise
        except Misdirected:
            self._identify()  # may raise an error with more details
            raise
        self.answered = True

    def check_content_type(self, path: str, content_type: str) -> None:
        """Look into an object with a web page's content type: a login page may have been served for it."""
        if content_type.startswith("text/html") and not path.endswith((".html", ".htm")):
            self._identify()

    def _identify(self) -> None:
        """Read an absent object, once. The answer has a body, which tells whether this is a store that has
        the bucket.

        Raises:
            Refused: there is no such bucket, or what answers is not a store.
        """
        if self._identified:
            return
        try:
            with driver_errors(self._url, ""):
                page = bytes(obstore.get(self._objects, ABSENT_KEY).bytes()).decode(errors="replace")
            if looks_like_a_page(page):
                title = Answer.of_body(200, "", page).message
                raise not_a_store(self._url, f"an HTML page: {title or 'without a title'}")
        except Outage:
            return  # try again at the next doubtful answer
        except NotFound:
            pass
        except Refused as refusal:
            if refusal.refuses_all:
                raise
        self._identified = True

    def check_listing(self) -> None:
        """Check an empty listing: obstore takes a web page for one. boto3 returns what the answer contained.

        Raises:
            Misdirected: it was not a listing.
        """
        if self._listed or self._s3 is None:
            return
        with s3_errors(self._url, "LIST"):
            bucket = self._url.split("/")[2]
            page = self._s3.client.list_objects_v2(Bucket=bucket, MaxKeys=1, **self._s3.payer)
        if not {"Name", "KeyCount", "IsTruncated"} & page.keys():
            raise not_a_store(self._url, "a listing without the fields of one")
        self._listed = True

    def with_region(self, refusal: Refused) -> Refused:
        """A redirect with the bucket's region added, which S3 names in a header that obstore ignores."""
        if refusal.code != "PermanentRedirect" or self._s3 is None or "AWS_REGION=" in str(refusal):
            return refusal
        region = self._s3.region_of(self._url.split("/")[2])
        if region is None:
            return refusal
        text = str(refusal).rpartition(";")[0]
        named = Refused(f"{text}; the bucket is in {region}: set AWS_REGION={region}")
        named.code, named.refuses_all = refusal.code, True
        return named
