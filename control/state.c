/* The file is one JSON object:
 *
 *     {"version": 1, "generation": 7,
 *      "documents": [{"file": "order.yaml", "line": 1, "text": "apiVersion: ..."}],
 *      "objects": [{"id": "Service/default/order-service", "document": 0, "hash": "0123...",
 *                   "generation": 3, "born": 3}]}
 *
 * Documents stand apart because a List, or one file read as a whole, may hold many objects. An
 * object is restored by parsing its document again behind as many empty lines as stood before it,
 * which is slower than reading a parsed form, but needs no second format for objects. */

#include "control/state.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "policy/parse.h"

#define STATE_VERSION 1
#define STATE_BYTES   ((size_t)1 << 30)
#define LINE_MAX_KEPT UINT64_C(10000000)

/* ---- documents ---- */

struct state_document *state_document_new(const char *file, uint32_t line, struct slice text)
{
    struct state_document *document = NEW(struct state_document);
    document->file = mem_dup_text(file);
    document->line = line;
    document->text = mem_dup(text.at, text.len);
    document->len = text.len;
    document->refs = 1;
    return document;
}

void state_document_unref(struct state_document **document)
{
    struct state_document *gone = *document;
    *document = NULL;
    if (gone == NULL) {
        return;
    }
    CHECK(gone->refs > 0);
    if (--gone->refs == 0) {
        mem_free(gone->file);
        mem_free(gone->text);
        mem_free(gone);
    }
}

void state_texts_init(struct state_texts *texts)
{
    /* Ids are the operator's own: no secret is needed. */
    map_init(&texts->by_id, 0, MAP_KEYS_COPIED);
}

void state_texts_fini(struct state_texts *texts)
{
    MAP_EACH(&texts->by_id, entry)
    {
        struct state_document *document = entry->value;
        state_document_unref(&document);
    }
    map_fini(&texts->by_id);
}

void state_texts_set(struct state_texts *texts, const char *id, struct state_document *document)
{
    document->refs++;
    struct state_document *old = map_set(&texts->by_id, slice_of_text(id), document);
    state_document_unref(&old);
}

void state_texts_remove(struct state_texts *texts, const char *id)
{
    struct state_document *old = map_remove(&texts->by_id, slice_of_text(id));
    state_document_unref(&old);
}

struct state_document *state_texts_get(const struct state_texts *texts, const char *id)
{
    return map_get(&texts->by_id, slice_of_text(id));
}

/* ---- writing ---- */

/* What is put together here may be neither refused nor lost. */
static void put(json_t *object, const char *key, json_t *value)
{
    CHECK(value != NULL);
    CHECK(json_object_set_new(object, key, value) == 0);
}

static json_t *document_to_json(const struct state_document *document)
{
    json_t *json = json_object();
    put(json, "file", json_string(document->file));
    put(json, "line", json_integer((json_int_t)document->line));
    put(json, "text", json_stringn(document->text, document->len));
    return json;
}

/* The number of a document in the list, which it joins at its first use. */
static json_int_t document_number(struct map *numbers, json_t *documents,
                                  struct state_document *document)
{
    struct slice key = slice_of(&document, sizeof(struct state_document *));
    uintptr_t number = (uintptr_t)map_get(numbers, key);
    if (number == 0) {
        CHECK(json_array_append_new(documents, document_to_json(document)) == 0);
        number = json_array_size(documents);
        (void)map_set(numbers, key, (void *)number);
    }
    return (json_int_t)number - 1;
}

static json_t *object_to_json(const struct object *object, json_int_t document)
{
    char hash[17];
    (void)snprintf(hash, sizeof hash, "%016" PRIx64, object->hash);
    json_t *json = json_object();
    put(json, "id", json_string(object->id));
    put(json, "document", json_integer(document));
    put(json, "hash", json_string(hash));
    put(json, "generation", json_integer((json_int_t)object->generation));
    put(json, "born", json_integer((json_int_t)object->born));
    return json;
}

char *state_write(const struct policy_set *set, const struct state_texts *texts, size_t *len)
{
    json_t *documents = json_array();
    json_t *objects = json_array();
    struct map numbers;
    map_init(&numbers, 0, MAP_KEYS_COPIED);
    for (size_t i = 0; i < set->count; i++) {
        struct state_document *document = state_texts_get(texts, set->objects[i]->id);
        /* Text that is no UTF-8 cannot have become an object. */
        if (document != NULL) {
            json_int_t number = document_number(&numbers, documents, document);
            CHECK(json_array_append_new(objects, object_to_json(set->objects[i], number)) == 0);
        }
    }
    map_fini(&numbers);
    json_t *root = json_object();
    put(root, "version", json_integer(STATE_VERSION));
    put(root, "generation", json_integer((json_int_t)set->generation));
    put(root, "documents", documents);
    put(root, "objects", objects);
    struct arena arena;
    arena_init(&arena, NULL);
    struct slice text = json_text(&arena, root, false);
    char *bytes = mem_dup(text.at, text.len);
    *len = text.len;
    arena_fini(&arena);
    json_decref(root);
    return bytes;
}

/* ---- reading ---- */

/* A document of the file, parsed; objects are taken out of it by id. */
struct kept {
    struct state_document *document;
    struct policy_documents parsed;
};

struct reading {
    struct policy_set *set;
    struct state_texts *texts;
    struct kept *kept;
    size_t count;
    size_t lost;
};

static void kept_parse(struct kept *kept)
{
    struct arena arena;
    arena_init(&arena, NULL);
    struct policy_problems problems;
    policy_problems_init(&problems, &arena);
    size_t before = kept->document->line > 0 ? kept->document->line - 1 : 0;
    uint8_t *text = arena_bytes(&arena, before + kept->document->len + 1);
    memset(text, '\n', before);
    memcpy(text + before, kept->document->text, kept->document->len);
    policy_parse(slice_of(text, before + kept->document->len), kept->document->file, &kept->parsed,
                 &problems);
    arena_fini(&arena);
}

static bool document_read(struct kept *kept, const json_t *json, struct error *err)
{
    struct slice file = {NULL, 0};
    struct slice text = {NULL, 0};
    uint64_t line = 1;
    if (!json_get_text(json, "file", &file, err) || !json_get_text(json, "text", &text, err) ||
        !json_get_u64(json, "line", LINE_MAX_KEPT, &line, err)) {
        return false;
    }
    if (file.at == NULL || text.at == NULL) {
        return error_set(err, "a document needs file and text");
    }
    char *name = mem_dup(file.at, file.len);
    kept->document = state_document_new(name, (uint32_t)line, text);
    mem_free(name);
    kept_parse(kept);
    return true;
}

static bool documents_read(struct reading *reading, const json_t *array, struct error *err)
{
    size_t count = json_array_size(array);
    reading->kept = NEW_ARRAY(struct kept, count);
    for (size_t i = 0; i < count; i++) {
        policy_documents_init(&reading->kept[i].parsed);
        reading->count++;
        if (!document_read(&reading->kept[i], json_array_get(array, i), err)) {
            return error_wrap(err, "documents[%zu]", i);
        }
    }
    return true;
}

static struct object *object_find(const struct kept *kept, struct slice id)
{
    for (size_t i = 0; i < kept->parsed.count; i++) {
        if (slice_eq(slice_of_text(kept->parsed.objects[i]->id), id)) {
            return kept->parsed.objects[i];
        }
    }
    return NULL;
}

static bool object_read(struct reading *reading, const json_t *json, struct error *err)
{
    struct slice id = {NULL, 0};
    uint64_t document = UINT64_MAX;
    uint64_t generation = 0;
    uint64_t born = 0;
    if (!json_get_text(json, "id", &id, err) ||
        !json_get_u64(json, "document", UINT32_MAX, &document, err) ||
        !json_get_u64(json, "generation", INT64_MAX, &generation, err) ||
        !json_get_u64(json, "born", INT64_MAX, &born, err)) {
        return false;
    }
    if (id.at == NULL || document >= reading->count) {
        return error_set(err, "an object needs an id and one of the documents");
    }
    const struct kept *kept = &reading->kept[document];
    struct object *object = object_find(kept, id);
    if (object == NULL || policy_set_find(reading->set, object->id) != NULL) {
        reading->lost++;
        return true;
    }
    state_texts_set(reading->texts, object->id, kept->document);
    struct object *taken = object_ref(object);
    policy_set_restore(reading->set, &taken, generation, born);
    return true;
}

static bool root_read(struct reading *reading, const json_t *root, struct error *err)
{
    uint64_t version = 0;
    uint64_t generation = 0;
    json_t *documents = NULL;
    json_t *objects = NULL;
    if (!json_get_u64(root, "version", UINT32_MAX, &version, err) ||
        !json_get_u64(root, "generation", INT64_MAX, &generation, err) ||
        !json_get_array(root, "documents", &documents, err) ||
        !json_get_array(root, "objects", &objects, err)) {
        return false;
    }
    if (version != STATE_VERSION) {
        return error_set(err, "version %" PRIu64 " of the state is not known here; %d is", version,
                         STATE_VERSION);
    }
    if (!documents_read(reading, documents, err)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(objects); i++) {
        if (!object_read(reading, json_array_get(objects, i), err)) {
            return error_wrap(err, "objects[%zu]", i);
        }
    }
    /* Removals take generations too, so the counter may be ahead of every object. */
    if (generation > reading->set->generation) {
        reading->set->generation = generation;
    }
    return true;
}

bool state_read(struct slice bytes, struct policy_set *set, struct state_texts *texts, size_t *lost,
                struct error *err)
{
    CHECK(set->count == 0);
    CHECK(map_count(&texts->by_id) == 0);
    struct reading reading = {.set = set, .texts = texts};
    json_t *root = json_parse(bytes, &(struct json_limits){.bytes = STATE_BYTES}, err);
    bool good = root != NULL && root_read(&reading, root, err);
    json_decref(root);
    for (size_t i = 0; i < reading.count; i++) {
        policy_documents_fini(&reading.kept[i].parsed);
        state_document_unref(&reading.kept[i].document);
    }
    mem_free(reading.kept);
    if (!good) {
        policy_set_fini(set);
        policy_set_init(set);
        state_texts_fini(texts);
        state_texts_init(texts);
    }
    *lost = reading.lost;
    return good;
}
