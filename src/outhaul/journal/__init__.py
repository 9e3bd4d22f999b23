"""The journal: what devices sent, on disk before they are told so, in the order it came.

A folder of numbered segments. `00000000000000000042.open` is being written; closed it is called `.log`, and
never changes again. Each holds frames, one per request: length and CRC-32 (u32, little-endian), then what
they cover: the header's length (u32), the header (JSON, see `Header`) and the body as the device sent it,
compressed or not.

**Position** is the number of the segment to read next. Everything in segments below it has been read.

What always holds:

- `append` returns only after its frame was synced to disk (`fdatasync`). Requests that wait at the same time
  share one write and one sync. When writing or syncing fails, all that shared it fail, the segment is cut
  back to what had been synced before, and the next frame goes into a new one: a kernel that failed to sync
  once may report success the second time without having written anything.
- Only closed segments are read, and a segment is synced before it is closed. So nothing is ever landed that a
  power failure could still take back.
- Numbers only grow, also over restarts and after landed segments were deleted, so a position never comes to
  mean something else.
- One process appends (a lock on the folder sees to it), any process reads. Any process may make a whole segment
  and *offer* it; the process that appends *adopts* it when it rolls, under the next number.
"""

from outhaul.journal.frames import Header
from outhaul.journal.offers import backlog, offer, offered
from outhaul.journal.reading import Segment, damaged, discard, preserve, read, segments
from outhaul.journal.writing import Journal

__all__ = [
    "Header",
    "Journal",
    "Segment",
    "backlog",
    "damaged",
    "discard",
    "offer",
    "offered",
    "preserve",
    "read",
    "segments",
]
