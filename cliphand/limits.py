"""What numbers may be that commands and requests share; an option is checked as it is read, a request as it is made."""

from annotated_types import Interval

ALL = Interval(ge=1, le=10_000_000)  # images of a data set
ANY = Interval(ge=0, le=10_000_000)
BATCH = Interval(ge=1, le=4096)
CALLS = Interval(ge=1, le=1_000_000)
MOST_MM = 1000.0
THREADS = Interval(ge=1, le=1024)
PROCESSES = Interval(ge=0, le=1024)
REPEATS = Interval(ge=0, le=1000)
SECONDS = Interval(gt=0, le=86_400)
SHARE = Interval(ge=0, le=1)
SPELL = Interval(ge=0, le=86_400)  # seconds; 0 leaves it out
TOLERANCE_MM = Interval(gt=0, le=MOST_MM)
