"""A server of Google Cloud Storage on the loopback, for tests: Google's emulator with the rest of its XML interface.

Google's ``storage-testbench`` (https://github.com/googleapis/storage-testbench, version 0.45.0) keeps the objects and
their generations and decides the conditions. Of the XML interface, which obstore talks to, it has only GET and PUT,
without the headers that obstore needs; the rest is here, as in
https://cloud.google.com/storage/docs/xml-api/reference-methods: listing, deleting, uploads in parts, headers, errors.
No test imports this file. It runs in an environment of its own, and the tests of stores then run against it::

    python -m venv google && google/bin/pip install git+https://github.com/googleapis/storage-testbench
    google/bin/python tests/google_store.py 9000
    export STORAGE_EMULATOR_HOST=http://127.0.0.1:9000 FATHOM_TEST_STORE=gs://bucket
    python -m pytest tests/synth/storage tests/*/*/test_*store.py
"""

import hashlib
import json
import logging
import re
import sys
import uuid
from collections import defaultdict
from xml.sax.saxutils import escape

import flask
import gcs
from testbench import common, error, rest_server
from werkzeug.serving import make_server
from werkzeug.test import EnvironBuilder

PAGE = 1000  # names in one answer to a listing, as Google's
CODES = {400: "InvalidArgument", 404: "NoSuchKey", 412: "PreconditionFailed", 416: "InvalidRange"}

root, db = rest_server.root, rest_server.db
uploads = defaultdict(dict)  # the parts of each upload by number


def answer(tag, *inside, status=200):
    text = f'<?xml version="1.0" encoding="UTF-8"?><{tag}>{"".join(inside)}</{tag}>'
    return flask.Response(text, status, mimetype="application/xml")


def headers(blob):
    """What Google says of each object beside its bytes."""
    return {
        "ETag": f'"{hashlib.md5(blob.media).hexdigest()}"',
        "Last-Modified": blob.metadata.update_time.ToDatetime().strftime("%a, %d %b %Y %H:%M:%S GMT"),
        "x-goog-generation": blob.metadata.generation,
    }


def stored(bucket_name, object_name, request):
    """Store what a request brings, if its conditions hold, all of which the emulator does."""
    blob, _ = gcs.object.Object.init_xml(request, db.get_bucket(bucket_name, None).metadata, object_name)
    db.insert_object(bucket_name, blob, context=None, preconditions=common.make_xml_preconditions(request))
    return headers(blob)


def get(bucket_name, object_name):
    db.get_bucket(bucket_name, None)
    response = rest_server.xml_get_object(bucket_name, object_name)
    response.headers.update(headers(db.get_object(bucket_name, object_name)))
    return response


def put(bucket_name, object_name):
    if upload := flask.request.args.get("uploadId"):
        data = flask.request.get_data()
        uploads[upload][int(flask.request.args["partNumber"])] = data
        return flask.Response(headers={"ETag": f'"{hashlib.md5(data).hexdigest()}"'})
    return flask.Response(headers=stored(bucket_name, object_name, flask.request))


def post(bucket_name, object_name):
    """Begin an upload in parts, or end it."""
    if "uploads" in flask.request.args:
        db.get_bucket(bucket_name, None)
        return answer("InitiateMultipartUploadResult", f"<UploadId>{uuid.uuid4().hex}</UploadId>")
    parts = uploads.pop(flask.request.args["uploadId"])
    numbers = [int(n) for n in re.findall(r"<PartNumber>(\d+)</PartNumber>", flask.request.get_data(as_text=True))]
    whole = EnvironBuilder(method="PUT", data=b"".join(parts[n] for n in numbers)).get_request()
    said = stored(bucket_name, object_name, whole)
    response = answer("CompleteMultipartUploadResult", f"<ETag>{escape(said['ETag'])}</ETag>")
    response.headers["x-goog-generation"] = said["x-goog-generation"]
    return response


def delete(bucket_name, object_name):
    if upload := flask.request.args.get("uploadId"):
        uploads.pop(upload, None)
    else:
        db.delete_object(bucket_name, object_name, preconditions=common.make_xml_preconditions(flask.request))
    return flask.Response(status=204)


def names(bucket_name):
    """One page of a bucket's objects and common prefixes, in the order of their names."""
    found, folders = db.list_object(flask.request, bucket_name, None)
    entries = {folder: f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in folders}
    for one in found:
        when, md5 = one.update_time.ToDatetime().isoformat(timespec="milliseconds"), one.checksums.md5_hash.hex()
        entries[one.name] = (
            f"<Contents><Key>{escape(one.name)}</Key><Generation>{one.generation}</Generation>"
            f'<LastModified>{when}Z</LastModified><ETag>"{md5}"</ETag><Size>{one.size}</Size></Contents>'
        )
    after = max(flask.request.args.get(name, "") for name in ("continuation-token", "start-after"))
    left = sorted(name for name in entries if name > after)
    page = left[: min(PAGE, int(flask.request.args.get("max-keys", PAGE)))]
    more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if len(page) < len(left) else ""
    return answer("ListBucketResult", f"<Name>{bucket_name}</Name>", *(entries[name] for name in page), more)


def failed(problem):
    """An error in Google's words: https://cloud.google.com/storage/docs/xml-api/reference-status."""
    if not isinstance(problem, error.RestException):
        return error.RestException.handler(problem)
    no_bucket = problem.code == 404 and '"message": "Bucket ' in problem.msg
    code = "NoSuchBucket" if no_bucket else CODES.get(problem.code, "InternalError")
    message = "The specified bucket does not exist." if no_bucket else escape(problem.msg)
    return answer("Error", f"<Code>{code}</Code><Message>{message}</Message>", status=problem.code)


root.view_functions["root_get_object_with_bucket"] = get
root.view_functions["root_put_object_with_bucket"] = put
root.view_functions["root_create_resumable_object"] = post
root.add_url_rule("/<bucket_name>/<path:object_name>", view_func=delete, methods=["DELETE"])
root.add_url_rule("/<bucket_name>", view_func=names, methods=["GET"])
root.register_error_handler(Exception, failed)

if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    bucket, _ = gcs.bucket.Bucket.init(common.FakeRequest(args={}, data=json.dumps({"name": "bucket"})), None)
    db.insert_bucket(bucket, None)
    make_server("127.0.0.1", int(sys.argv[1]), rest_server.server, threaded=True).serve_forever()
