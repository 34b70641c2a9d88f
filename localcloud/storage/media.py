"""The bytes of objects: whole or in ranges, packed or not."""

import gzip
import re

from localcloud.serving import Request, Response
from localcloud.storage import keys
from localcloud.storage.state import Object, RefusedError


def media(request: Request, there: Object) -> Response:
    """Return an object's bytes, or the range of them that is asked for."""
    key = keys.given(request.headers)
    keys.unlock(there, key)
    resource, data = there.resource, there.data
    headers = {
        "Content-Type": resource.get("contentType", "application/octet-stream"),
        "Accept-Ranges": "bytes",
        "ETag": resource["etag"],
        "X-Goog-Generation": there.generation,
        "X-Goog-Metageneration": there.metageneration,
        "X-Goog-Storage-Class": resource["storageClass"],
        "X-Goog-Stored-Content-Encoding": resource.get("contentEncoding", "identity"),
        "X-Goog-Stored-Content-Length": resource["size"],
        "X-Goog-Hash": f"crc32c={resource['crc32c']}"
        + (f",md5={resource['md5Hash']}" if "md5Hash" in resource else ""),
        **keys.answered(key),
    }
    for field, header in (
        ("cacheControl", "Cache-Control"),
        ("contentDisposition", "Content-Disposition"),
        ("contentLanguage", "Content-Language"),
    ):
        if field in resource:
            headers[header] = resource[field]
    if resource.get("contentEncoding") == "gzip" and "gzip" not in request.headers.get("Accept-Encoding", ""):
        # Decompressive transcoding: the whole object, whatever the range.
        return Response(200, gzip.decompress(data), headers)
    if "contentEncoding" in resource:
        headers["Content-Encoding"] = resource["contentEncoding"]
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", "").replace(" ", ""))
    if not found or not any(found.groups()):
        return Response(200, data, headers)
    size = len(data)
    if found[1]:
        start, end = int(found[1]), min(int(found[2] or size), size - 1)
    else:
        start, end = max(size - int(found[2]), 0), size - 1
    if start >= size or start > end:
        raise RefusedError(416, "Request range not satisfiable", headers={"Content-Range": f"bytes */{size}"})
    return Response(206, data[start : end + 1], {**headers, "Content-Range": f"bytes {start}-{end}/{size}"})
