"""What the lint rules know about this house: who may include whom, who may call what.

Everything here is a table. To move a wall, change a row and say why in the commit.
Paths are shell patterns (fnmatch, where * also matches a slash) from the root of the tree.
"""

# The layers, each with those that it may include (docs/architecture.md draws the arrows).
LAYERS = {
    "base": (),
    "http": ("base",),
    "xds": ("base", "http"),
    "policy": ("base", "http", "xds"),
    "sidecar": ("base", "http", "xds"),
    "control": ("base", "http", "xds", "policy"),
    "cli": ("base", "http", "xds", "policy"),
    "init": ("base",),
}

# Inside a layer: ranks from the bottom up. A file includes its own rank or one below it.
# A folder without ranks has no order. Every file of a ranked layer must match a row.
RANKS = {
    "sidecar": (
        ("sidecar/fail.*", "sidecar/alpn.*", "sidecar/config/snapshot*", "sidecar/config/parcel*"),
        ("sidecar/observe/*",),
        # worker.h says what a thread owns, and no more: its code stands above accept
        ("sidecar/route/*", "sidecar/resilience/*", "sidecar/access/*", "sidecar/upstream/*",
         "sidecar/worker.h"),
        ("sidecar/config/compile*", "sidecar/config/tls_make*"),
        ("sidecar/exchange/*",),
        ("sidecar/config/destinations*",),
        ("sidecar/accept/*",),
        ("sidecar/worker*",),
        ("sidecar/config/feed*", "sidecar/config/identity*", "sidecar/config/delivery*",
         "sidecar/config/names*", "sidecar/config/control_place*", "sidecar/lifecycle*",
         "sidecar/options*", "sidecar/admin/*"),
        ("sidecar/main.c",),
    ),
    "control": (
        ("control/source/*", "control/fetch*", "control/leader*", "control/options*",
         "control/state*"),
        ("control/picture*",),
        ("control/serve/*", "control/status*"),
        ("control/main.c",),
    ),
}

_TLS = ("base/tls*.c", "base/conn*.c", "base/spiffe*.c", "base/crypto*.c", "control/serve/ca*.c")
_PROTOBUF = ("xds/*", "policy/translate*", "sidecar/config/*", "control/*")

# Headers of libraries, and the only files that may include them. A library stops at its row.
LIBRARIES = (
    ("ev.h", ("base/loop*.c", "base/net*.c")),
    ("openssl/*", _TLS),
    ("curl/*", ("control/fetch*.c",)),
    ("pcre2*.h", ("base/regex*.c",)),
    ("ares*.h", ("sidecar/upstream/resolve*.c",)),
    ("jansson.h", ("base/json.[ch]",)),
    ("yaml.h", ("base/yaml*.c",)),
    ("nftables/*", ("init/*.c",)),
    ("nghttp2/*", ()),
    ("cmocka.h", ()),
    ("protobuf-c/*", _PROTOBUF),
    ("*.pb-c.h", _PROTOBUF),
)

_SOCKETS = ("base/net*.c", "base/loop*.c", "base/mailbox*.c", "init/*.c")

# Calls, the only files that may make them, and what to use instead.
# "tests" in the second column: tests may, too.
CALLS = (
    ("strcpy strcat sprintf vsprintf strtok gets alloca", (), "base/slice.h, base/buf.h or snprintf"),
    ("atoi atol atof", (), "the bounded parsers of base/slice.h"),
    ("localtime gmtime", (), "the _r forms, in base/clock.c"),
    ("rand srand random srandom drand48", (), "base/rng.h"),
    ("malloc calloc realloc reallocarray free strdup strndup asprintf vasprintf",
     ("base/*", "tests"), "base/alloc.h"),
    ("time clock_gettime gettimeofday clock", ("base/clock.c", "tests"), "base/clock.h"),
    ("getrandom getentropy arc4random RAND_bytes", ("base/rng*.c", "base/crypto*.c", "tests"),
     "base/rng.h, or base/crypto.h for secrets"),
    ("getaddrinfo gethostbyname getnameinfo", ("tests",), "sidecar/upstream/resolve.h: it blocks"),
    ("pthread_create thrd_create", ("base/thread*.c", "sidecar/worker*.c", "tests"),
     "a worker or the admin loop"),
    ("socket socketpair accept accept4 listen bind connect recv recvfrom recvmsg send sendto"
     " sendmsg epoll_create1 epoll_ctl epoll_wait select", (*_SOCKETS, "tests"),
     "base/net.h: above it a connection is opaque"),
    ("poll", (*_SOCKETS, "base/log.c", "tests"), "base/net.h; the log asks whether its reader is ready"),
    ("loop_watch", ("base/*", "sidecar/upstream/resolve*.c", "control/fetch*.c",
                    "control/source/files*.c", "tests"), "base/net.h"),
    ("protobuf_c_message_unpack *__unpack", ("xds/decode.c", "tests"), "xds/decode.h: it bounds first"),
)

# Objects that may be written while the program runs, by source file and symbol.
# main.c of each program is free: it owns the process.
MUTABLE_GLOBALS = (
    ("base/check.c", "*", "the exchange that runs now, thread-local"),
    ("base/alloc.c", "*", "the counters of allocation, thread-local"),
    ("base/tls_library.c", "*", "OpenSSL calls its provider without an argument of ours"),
    ("base/log.c", "*", "the process's one log: set before threads, atomic afterwards"),
)

# Our own layers, whose code is linted. Tests are formatted, and may not call what nobody may.
SOURCES = tuple(f"{layer}/*" for layer in LAYERS)
