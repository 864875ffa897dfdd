/* The tree is built from libyaml's events with a stack of the containers that are open; nothing
 * recurses on the depth of the text but base/yaml_json.c, and by then the depth is bounded.
 * libyaml's own document loader was refused: it keeps no position of names, expands nothing that it
 * could count, and its nodes are freed with the document. */
#include "base/yaml.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/alloc.h"
#include "base/yaml_scalar.h"

#define MAX_ANCHORS    1000U
#define MAX_MERGE_WORK (1U << 20) /* name comparisons of one mapping's merge keys */

/* An open sequence or mapping. */
struct frame {
    struct yaml_node *node;
    struct yaml_node *last;  /* newest child; null: none yet */
    struct yaml_node *merge; /* the value of "<<"; null: none */
    struct slice key;        /* read, its value not yet; null: none */
    uint32_t key_line;
    uint32_t key_column;
    bool key_merges;
};

struct anchor {
    struct anchor *older;
    struct slice name;
    const struct yaml_node *node;
    bool closed; /* the node is complete, an alias may stand for it */
};

struct builder {
    struct arena *arena;
    struct yaml_limits limits;
    uint32_t first_line; /* of the text that libyaml sees */
    struct yaml_node *root;
    struct frame *frames;
    unsigned open; /* frames in use */
    struct anchor *anchors;
    unsigned anchor_count;
    uint64_t visited; /* nodes that a walk over the document would visit */
    uint32_t error_line;
    uint32_t error_column;
    struct error *err;
};

const char *yaml_kind_name(enum yaml_kind kind)
{
    static const char *const names[] = {
#define YAML_KIND_NAME(name, meaning) meaning,
        YAML_KINDS(YAML_KIND_NAME)
#undef YAML_KIND_NAME
    };
    CHECK((size_t)kind < COUNT_OF(names));
    return names[kind];
}

static bool refuse(struct builder *b, uint32_t line, uint32_t column, const char *what)
{
    b->error_line = line;
    b->error_column = column;
    return error_set(b->err, "%s", what);
}

static bool refuse_name(struct builder *b, const struct yaml_node *at, const char *what,
                        struct slice name)
{
    b->error_line = at->key_line;
    b->error_column = at->key_column;
    return error_set(b->err, "%s: %.*s", what, SLICE_ARG(slice_head(name, 200)));
}

/* A tag's short name behind the core schema's prefix; the empty slice with a null pointer when it
 * is another tag. */
static struct slice core_tag(const yaml_char_t *tag)
{
    struct slice text = slice_of_text((const char *)tag);
    struct slice prefix = SLICE("tag:yaml.org,2002:");
    return slice_starts(text, prefix) ? slice_from(text, prefix.len) : (struct slice){NULL, 0};
}

static bool resolve_scalar(struct builder *b, struct yaml_node *node, const yaml_event_t *event)
{
    const yaml_char_t *tag = event->data.scalar.tag;
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    node->kind = YAML_KIND_STRING;
    if (tag == NULL ? plain : strcmp((const char *)tag, "!") != 0) {
        if (!yaml_scalar_resolve(node)) {
            return refuse(b, node->line, node->column, "infinity and NaN are not numbers here");
        }
    }
    if (tag != NULL && strcmp((const char *)tag, "!") != 0) {
        enum yaml_tag fit = yaml_scalar_tag(node, core_tag(tag));
        if (fit != YAML_TAG_FITS) {
            return refuse(b, node->line, node->column,
                          fit == YAML_TAG_MISFIT ? "the value does not fit its tag"
                                                 : "a tag outside of YAML's core schema");
        }
    }
    return true;
}

/* ---- the tree ---- */

static struct yaml_node *node_new(struct builder *b, const yaml_event_t *event)
{
    struct yaml_node *node = ARENA_NEW(b->arena, struct yaml_node);
    node->line = b->first_line + (uint32_t)event->start_mark.line;
    node->column = (uint32_t)event->start_mark.column + 1;
    node->weight = 1;
    return node;
}

/* Counts `weight` more nodes against the bound. */
static bool charge(struct builder *b, const struct yaml_node *at, uint32_t weight)
{
    b->visited += weight;
    return b->visited <= b->limits.nodes ||
           refuse(b, at->line, at->column,
                  "too many values in one document, aliases counted as what they stand for");
}

/* Puts a node below the innermost open container, or at the root. */
static void attach(struct builder *b, struct yaml_node *node)
{
    if (b->open == 0) {
        b->root = node;
        return;
    }
    struct frame *frame = &b->frames[b->open - 1];
    if (frame->node->kind == YAML_KIND_MAPPING) {
        CHECK(frame->key.at != NULL);
        node->key = frame->key;
        node->key_line = frame->key_line;
        node->key_column = frame->key_column;
        frame->key = (struct slice){NULL, 0};
        if (frame->key_merges) {
            frame->merge = node;
        }
    }
    if (frame->last != NULL) {
        frame->last->next = node;
    } else {
        frame->node->first = node;
    }
    frame->last = node;
    frame->node->count++;
}

/* True when the next node is a name of the innermost mapping. */
static bool wants_key(const struct builder *b)
{
    const struct frame *frame = b->open > 0 ? &b->frames[b->open - 1] : NULL;
    return frame != NULL && frame->node->kind == YAML_KIND_MAPPING && frame->key.at == NULL;
}

static bool remember_anchor(struct builder *b, const yaml_char_t *name,
                            const struct yaml_node *node, bool closed)
{
    if (name == NULL) {
        return true;
    }
    if (b->anchor_count++ >= MAX_ANCHORS) {
        return refuse(b, node->line, node->column, "too many anchors in one document");
    }
    struct anchor *anchor = ARENA_NEW(b->arena, struct anchor);
    *anchor = (struct anchor){.older = b->anchors,
                              .name = arena_dup(b->arena, slice_of_text((const char *)name)),
                              .node = node,
                              .closed = closed};
    b->anchors = anchor;
    return true;
}

static bool take_key(struct builder *b, const struct yaml_node *key, const yaml_event_t *event)
{
    struct frame *frame = &b->frames[b->open - 1];
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (key->kind == YAML_KIND_NULL) {
        return refuse(b, key->line, key->column, "a mapping's name cannot be null");
    }
    frame->key = key->text;
    frame->key_line = key->line;
    frame->key_column = key->column;
    frame->key_merges = plain && slice_eq(key->text, SLICE("<<"));
    return true;
}

static bool take_scalar(struct builder *b, const yaml_event_t *event)
{
    struct yaml_node *node = node_new(b, event);
    const char *value = (const char *)event->data.scalar.value;
    size_t len = event->data.scalar.length;
    node->text = arena_dup(b->arena, slice_of(value, len));
    if (memchr(value, '\0', len) != NULL) {
        return refuse(b, node->line, node->column, "a zero character");
    }
    if (!resolve_scalar(b, node, event) ||
        !remember_anchor(b, event->data.scalar.anchor, node, true)) {
        return false;
    }
    if (wants_key(b)) {
        return take_key(b, node, event);
    }
    if (!charge(b, node, 1)) {
        return false;
    }
    attach(b, node);
    return true;
}

static bool take_alias(struct builder *b, const yaml_event_t *event)
{
    struct yaml_node *node = node_new(b, event);
    struct slice name = slice_of_text((const char *)event->data.alias.anchor);
    const struct anchor *anchor = b->anchors;
    while (anchor != NULL && !slice_eq(anchor->name, name)) {
        anchor = anchor->older;
    }
    if (anchor == NULL) {
        return refuse(b, node->line, node->column, "an alias that no anchor defines");
    }
    if (!anchor->closed) {
        return refuse(b, node->line, node->column, "an alias inside of what it stands for");
    }
    if (wants_key(b)) {
        return refuse(b, node->line, node->column, "an alias cannot be a mapping's name");
    }
    if (b->open + anchor->node->height > b->limits.depth) {
        return refuse(b, node->line, node->column, "nested too deeply");
    }
    uint32_t line = node->line;
    uint32_t column = node->column;
    *node = *anchor->node;
    node->line = line;
    node->column = column;
    node->next = NULL;
    node->key = (struct slice){NULL, 0};
    if (!charge(b, node, node->weight)) {
        return false;
    }
    attach(b, node);
    return true;
}

static bool open_container(struct builder *b, const yaml_event_t *event, enum yaml_kind kind,
                           const yaml_char_t *anchor, const yaml_char_t *tag)
{
    struct yaml_node *node = node_new(b, event);
    node->kind = kind;
    struct slice own_tag = kind == YAML_KIND_MAPPING ? SLICE("map") : SLICE("seq");
    if (tag != NULL && strcmp((const char *)tag, "!") != 0 && !slice_eq(core_tag(tag), own_tag)) {
        return refuse(b, node->line, node->column, "a tag outside of YAML's core schema");
    }
    if (wants_key(b)) {
        return refuse(b, node->line, node->column, "a mapping's name must be a plain value");
    }
    if (b->open >= b->limits.depth) {
        return refuse(b, node->line, node->column, "nested too deeply");
    }
    if (!remember_anchor(b, anchor, node, false) || !charge(b, node, 1)) {
        return false;
    }
    attach(b, node);
    b->frames[b->open++] = (struct frame){.node = node};
    return true;
}

static int compare_children(const void *a, const void *b)
{
    const struct yaml_node *left = *(const struct yaml_node *const *)a;
    const struct yaml_node *right = *(const struct yaml_node *const *)b;
    int order = slice_compare(left->key, right->key);
    if (order == 0) {
        order = left->key_line < right->key_line ? -1 : left->key_line > right->key_line;
    }
    if (order == 0) {
        order = left->key_column < right->key_column ? -1 : left->key_column > right->key_column;
    }
    return order;
}

/* The later child of two with one name; null when all names differ. */
static const struct yaml_node *find_duplicate(const struct yaml_node *mapping)
{
    if (mapping->count < 2) {
        return NULL;
    }
    const struct yaml_node **sorted = NEW_ARRAY(const struct yaml_node *, mapping->count);
    size_t count = 0;
    YAML_EACH(mapping, child)
    {
        sorted[count++] = child;
    }
    qsort(sorted, count, sizeof sorted[0], compare_children);
    const struct yaml_node *found = NULL;
    for (size_t i = 1; i < count && found == NULL; i++) {
        found = slice_eq(sorted[i - 1]->key, sorted[i]->key) ? sorted[i] : NULL;
    }
    mem_free(sorted);
    return found;
}

static struct yaml_node *find_child(const struct yaml_node *mapping, struct slice key)
{
    for (struct yaml_node *child = mapping->first; child != NULL; child = child->next) {
        if (slice_eq(child->key, key)) {
            return child;
        }
    }
    return NULL;
}

/* Copies the children of `source` that `frame`'s mapping lacks behind its own. */
static bool merge_from(struct builder *b, struct frame *frame, const struct yaml_node *source,
                       uint64_t *work)
{
    struct yaml_node *mapping = frame->node;
    if (source->kind != YAML_KIND_MAPPING) {
        return refuse(b, source->line, source->column,
                      "a merge key wants a mapping or a list of mappings");
    }
    YAML_EACH(source, child)
    {
        *work += mapping->count + 1;
        if (*work > MAX_MERGE_WORK) {
            return refuse(b, source->line, source->column, "too much to merge");
        }
        if (find_child(mapping, child->key) != NULL) {
            continue;
        }
        if (!charge(b, source, child->weight)) {
            return false;
        }
        struct yaml_node *copy = ARENA_NEW(b->arena, struct yaml_node);
        *copy = *child;
        copy->next = NULL;
        if (frame->last != NULL) {
            frame->last->next = copy;
        } else {
            mapping->first = copy;
        }
        frame->last = copy;
        mapping->count++;
    }
    return true;
}

/* Takes "<<" out of the mapping and puts in what it stands for: the mapping's own names win, then
 * the first of a list. */
static bool resolve_merge(struct builder *b, struct frame *frame)
{
    struct yaml_node *mapping = frame->node;
    const struct yaml_node *merge = frame->merge;
    struct yaml_node *before = NULL;
    for (struct yaml_node *child = mapping->first; child != merge; child = child->next) {
        before = child;
    }
    if (before != NULL) {
        before->next = merge->next;
    } else {
        mapping->first = merge->next;
    }
    frame->last = frame->last == merge ? before : frame->last;
    mapping->count--;
    uint64_t work = 0;
    if (merge->kind != YAML_KIND_SEQUENCE) {
        return merge_from(b, frame, merge, &work);
    }
    YAML_EACH(merge, source)
    {
        if (!merge_from(b, frame, source, &work)) {
            return false;
        }
    }
    return true;
}

static bool close_container(struct builder *b)
{
    struct frame *frame = &b->frames[b->open - 1];
    struct yaml_node *node = frame->node;
    if (node->kind == YAML_KIND_MAPPING) {
        const struct yaml_node *twice = find_duplicate(node);
        if (twice != NULL) {
            return refuse_name(b, twice, "this name stands in the mapping already", twice->key);
        }
        if (frame->merge != NULL && !resolve_merge(b, frame)) {
            return false;
        }
    }
    /* A child that an alias made is bounded by `charge`, so that the sum fits. */
    YAML_EACH(node, child)
    {
        node->weight += child->weight;
        node->height = child->height > node->height ? child->height : node->height;
    }
    node->height++;
    for (struct anchor *anchor = b->anchors; anchor != NULL; anchor = anchor->older) {
        if (anchor->node == node) {
            anchor->closed = true;
            break;
        }
    }
    b->open--;
    return true;
}

static bool take_event(struct builder *b, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        return true;
    case YAML_DOCUMENT_START_EVENT:
        /* The reader cut the text at every marker, so this takes a bare carriage return or one of
         * Unicode's line ends before a marker. */
        return b->root == NULL || refuse(b, b->first_line + (uint32_t)event->start_mark.line, 1,
                                         "a document must begin on a line of its own");
    case YAML_ALIAS_EVENT:
        return take_alias(b, event);
    case YAML_SCALAR_EVENT:
        return take_scalar(b, event);
    case YAML_SEQUENCE_START_EVENT:
        return open_container(b, event, YAML_KIND_SEQUENCE, event->data.sequence_start.anchor,
                              event->data.sequence_start.tag);
    case YAML_MAPPING_START_EVENT:
        return open_container(b, event, YAML_KIND_MAPPING, event->data.mapping_start.anchor,
                              event->data.mapping_start.tag);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return close_container(b);
    }
    return true;
}

static bool refuse_syntax(struct builder *b, const yaml_parser_t *parser)
{
    CHECK(parser->error != YAML_MEMORY_ERROR);
    b->error_line = b->first_line + (uint32_t)parser->problem_mark.line;
    b->error_column = (uint32_t)parser->problem_mark.column + 1;
    const char *problem = parser->problem != NULL ? parser->problem : "cannot be read";
    if (parser->context != NULL) {
        return error_set(b->err, "%s, %s", parser->context, problem);
    }
    return error_set(b->err, "%s", problem);
}

/* Every event of one document's text. */
static bool build(struct builder *b, struct slice text)
{
    yaml_parser_t parser;
    CHECK(yaml_parser_initialize(&parser) == 1);
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, text.at, text.len);
    bool good = true;
    for (bool more = true; more && good;) {
        yaml_event_t event;
        if (yaml_parser_parse(&parser, &event) != 1) {
            good = refuse_syntax(b, &parser);
            break;
        }
        more = event.type != YAML_STREAM_END_EVENT;
        good = take_event(b, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return good;
}

/* ---- the documents of a file ---- */

void yaml_reader_init(struct yaml_reader *reader, struct slice text,
                      const struct yaml_limits *limits)
{
    struct yaml_limits own = limits != NULL ? *limits : (struct yaml_limits){0};
    own.bytes = own.bytes > 0 ? own.bytes : YAML_DEFAULT_MAX_BYTES;
    own.depth = own.depth > 0 ? own.depth : YAML_DEFAULT_MAX_DEPTH;
    own.nodes = own.nodes > 0 ? own.nodes : YAML_DEFAULT_MAX_NODES;
    CHECK(own.bytes < UINT32_MAX);
    CHECK(own.nodes < UINT32_MAX / 4);
    struct slice byte_order_mark = SLICE("\xEF\xBB\xBF");
    *reader = (struct yaml_reader){.rest = text, .line = 1, .limits = own};
    if (slice_starts(text, byte_order_mark)) {
        reader->rest = slice_from(text, byte_order_mark.len);
    }
}

/* A marker stands alone at the start of a line (YAML 1.2.2, 9.1.2); nothing else may look like it,
 * not even inside of a block scalar, so that cutting the text there is exact. */
static bool is_marker(struct slice line, const char *marker)
{
    return slice_starts(line, slice_of_text(marker)) &&
           (line.len == 3 || strchr(" \t\r", line.at[3]) != NULL);
}

/* Nothing to read: blank, a comment, or a directive. */
static bool is_prelude(struct slice line)
{
    struct slice trimmed = slice_trim(line);
    return trimmed.len == 0 || trimmed.at[0] == '#' || trimmed.at[0] == '\r' || line.at[0] == '%';
}

/* Cuts the next document off the text, with the directives before it and the "..." behind it. */
static struct slice next_chunk(struct yaml_reader *reader)
{
    struct slice whole = reader->rest;
    bool begun = false;
    reader->document_line = reader->line;
    while (reader->rest.len > 0) {
        size_t end = slice_find(reader->rest, '\n');
        struct slice line = slice_head(reader->rest, end);
        bool start = is_marker(line, "---");
        if (start && begun) {
            break;
        }
        begun = begun || start || !is_prelude(line);
        reader->line++;
        reader->rest = slice_from(reader->rest, end + 1);
        if (is_marker(line, "...")) {
            break;
        }
    }
    return slice_head(whole, whole.len - reader->rest.len);
}

/* An empty document: what stands between two markers with nothing but comments. */
static bool is_empty(const struct yaml_node *root)
{
    return root == NULL || (root->kind == YAML_KIND_NULL && root->text.len == 0);
}

enum yaml_read yaml_read(struct yaml_reader *reader, struct arena *arena, struct yaml_node **root,
                         struct error *err)
{
    if (reader->rest.len > reader->limits.bytes) {
        (void)error_set(err, "%zu bytes of YAML, allowed are %zu", reader->rest.len,
                        reader->limits.bytes);
        reader->rest = (struct slice){NULL, 0};
        reader->error_line = 1;
        reader->error_column = 1;
        return YAML_READ_BAD;
    }
    while (reader->rest.len > 0) {
        struct slice chunk = next_chunk(reader);
        struct builder b = {.arena = arena,
                            .limits = reader->limits,
                            .first_line = reader->document_line,
                            .frames = NEW_ARRAY(struct frame, reader->limits.depth),
                            .err = err};
        bool good = build(&b, chunk);
        mem_free(b.frames);
        if (!good) {
            reader->error_line = b.error_line;
            reader->error_column = b.error_column;
            return YAML_READ_BAD;
        }
        if (!is_empty(b.root)) {
            reader->document_line = b.root->line;
            *root = b.root;
            return YAML_READ_DOCUMENT;
        }
    }
    return YAML_READ_END;
}

struct yaml_node *yaml_parse(struct arena *arena, struct slice text,
                             const struct yaml_limits *limits, struct error *err)
{
    struct yaml_reader reader;
    struct yaml_node *root = NULL;
    struct yaml_node *second = NULL;
    yaml_reader_init(&reader, text, limits);
    enum yaml_read first = yaml_read(&reader, arena, &root, err);
    if (first == YAML_READ_END) {
        (void)error_set(err, "line 1, column 1: no document");
        return NULL;
    }
    if (first == YAML_READ_BAD || yaml_read(&reader, arena, &second, err) == YAML_READ_BAD) {
        (void)error_wrap(err, "line %u, column %u", reader.error_line, reader.error_column);
        return NULL;
    }
    if (second != NULL) {
        (void)error_set(err, "line %u, column 1: a second document", second->line);
        return NULL;
    }
    return root;
}

struct yaml_node *yaml_get(const struct yaml_node *mapping, const char *key)
{
    if (mapping == NULL || mapping->kind != YAML_KIND_MAPPING) {
        return NULL;
    }
    return find_child(mapping, slice_of_text(key));
}
