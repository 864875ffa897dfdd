#include "sidecar/config/parcel.h"

#include "base/alloc.h"

struct published {
    struct loop *home;
    struct snapshot *snapshot;
    uint32_t references; /* the admin's owners, and parcels that are out */
};

struct parcel {
    struct mail mail; /* the way home */
    struct published *published;
    uint32_t references; /* the worker's */
};

struct published *published_new_take(struct loop *home, struct snapshot **snapshot)
{
    CHECK(*snapshot != NULL);
    struct published *published = NEW(struct published);
    *published = (struct published){.home = home, .snapshot = *snapshot, .references = 1};
    *snapshot = NULL;
    return published;
}

struct published *published_ref(struct published *published)
{
    CHECK(published->references > 0);
    published->references++;
    return published;
}

void published_unref(struct published **published)
{
    struct published *it = *published;
    *published = NULL;
    if (it == NULL) {
        return;
    }
    CHECK(it->references > 0);
    if (--it->references == 0) {
        snapshot_free(&it->snapshot);
        mem_free(it);
    }
}

static void come_home(struct mail *mail, struct loop *loop)
{
    struct parcel *parcel = CONTAINER_OF(mail, struct parcel, mail);
    CHECK(parcel->published->home == loop);
    published_unref(&parcel->published);
    mem_free(parcel);
}

struct parcel *parcel_new(struct published *published)
{
    struct parcel *parcel = NEW(struct parcel);
    *parcel = (struct parcel){
        .mail.deliver = come_home, .published = published_ref(published), .references = 1};
    return parcel;
}

struct parcel *parcel_ref(struct parcel *parcel)
{
    CHECK(parcel->references > 0);
    parcel->references++;
    return parcel;
}

void parcel_unref(struct parcel **parcel)
{
    struct parcel *it = *parcel;
    *parcel = NULL;
    if (it == NULL) {
        return;
    }
    CHECK(it->references > 0);
    if (--it->references == 0) {
        loop_send(it->published->home, &it->mail);
    }
}
