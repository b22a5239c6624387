"""Whether what answers is an object store, and has the bucket: found out where an answer leaves it open."""

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
    looks_like_a_page,
    named_errors,
    no_store,
)

NOBODYS = "originality-asks-whether-this-store-answers"
"""A key at which there is nothing."""


class Contact:
    """What is known of the service behind a bucket's URL."""

    def __init__(self, url: str, objects: ObjectStore, s3: S3Access | None) -> None:
        self.answered = False
        """Whether anything has answered."""
        self._url = url
        self._objects = objects
        self._s3 = s3
        self._greeted = False
        self._listed = s3 is None

    @contextmanager
    def watched(self, path: str) -> Iterator[None]:
        """While it is open, one request is made; an answer that may be of no store is looked into."""
        try:
            with named_errors(self._url, path):
                yield
        except NotFound as missing:
            self.answered = True
            if not missing.code:  # as of HEAD, whose answer has no body: the bucket itself may be missing
                self._greet()
            raise
        except Misdirected:
            self._greet()  # which may have more to say
            raise
        self.answered = True

    def suspect(self, path: str, content_type: str) -> None:
        """Looks into an object that says it is a web page, as a login page in its place would."""
        if content_type.startswith("text/html") and not path.endswith((".html", ".htm")):
            self._greet()

    def _greet(self) -> None:
        """Once: reads an object that is not there. The answer has a body, which says whether this is a store
        and has the bucket.

        Raises:
            Refused: it has not, or what answers is no store.
        """
        if self._greeted:
            return
        try:
            with named_errors(self._url, ""):
                page = bytes(obstore.get(self._objects, NOBODYS).bytes()).decode(errors="replace")
            if looks_like_a_page(page):
                title = Answer.of_body(200, "", page).message
                raise no_store(self._url, f"an HTML page: {title or 'without a title'}")
        except Outage:
            return  # next time
        except NotFound:
            pass
        except Refused as refusal:
            if refusal.of_all:
                raise
        self._greeted = True

    def check_listing(self) -> None:
        """Of an empty listing: the driver takes a web page for one, and boto3 shows what it was."""
        if self._listed or self._s3 is None:
            return
        with s3_errors(self._url, "LIST"):
            bucket = self._url.split("/")[2]
            page = self._s3.client.list_objects_v2(Bucket=bucket, MaxKeys=1, **self._s3.payer)
        if not {"Name", "KeyCount", "IsTruncated"} & page.keys():
            raise no_store(self._url, "a listing that is none")
        self._listed = True

    def with_region(self, refusal: Refused) -> Refused:
        """A redirect says where a bucket is in a header, which the driver does not pass on."""
        if refusal.code != "PermanentRedirect" or self._s3 is None or "AWS_REGION=" in str(refusal):
            return refusal
        region = self._s3.region_of(self._url.split("/")[2])
        if region is None:
            return refusal
        text = str(refusal).rpartition(";")[0]
        named = Refused(f"{text}; the bucket is in {region}: set AWS_REGION={region}")
        named.code, named.of_all = refusal.code, True
        return named
