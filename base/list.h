#pragma once
/* Intrusive doubly linked ring. A node in no list is zeroed or points to itself; being in a list is
 * a state that others read (pool lists), so list_linked() is exact. */

#include <stdbool.h>
#include <stddef.h>

#include "base/check.h"

struct list {
    struct list *next;
    struct list *prev;
};

static inline void list_init(struct list *head)
{
    head->next = head;
    head->prev = head;
}

/* True when the node is in a list. */
static inline bool list_linked(const struct list *node)
{
    return node->next != NULL && node->next != node;
}

static inline bool list_empty(const struct list *head)
{
    return !list_linked(head);
}

static inline void list_insert_before(struct list *at, struct list *node)
{
    CHECK(!list_linked(node));
    node->prev = at->prev;
    node->next = at;
    at->prev->next = node;
    at->prev = node;
}

/* At the end of the list. */
static inline void list_append(struct list *head, struct list *node)
{
    list_insert_before(head, node);
}

/* At the front of the list. */
static inline void list_push(struct list *head, struct list *node)
{
    list_insert_before(head->next, node);
}

/* Out of its list; nothing where it is in none. */
static inline void list_remove(struct list *node)
{
    if (list_linked(node)) {
        CHECK(node->prev != NULL);
        node->prev->next = node->next;
        node->next->prev = node->prev;
    }
    node->next = NULL;
    node->prev = NULL;
}

/* Takes the first node out; null when empty. */
static inline struct list *list_pop(struct list *head)
{
    if (list_empty(head)) {
        return NULL;
    }
    struct list *node = head->next;
    list_remove(node);
    return node;
}

/* Moves all of `from` to the end of `to`; `from` is empty afterwards. */
static inline void list_splice(struct list *to, struct list *from)
{
    if (list_empty(from)) {
        return;
    }
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

/* Walks the nodes; the body may remove `node` itself, no other. */
#define LIST_EACH(head, node)                                                                      \
    for (struct list *node = (head)->next, *node##_next = node->next; node != (head);              \
         node = node##_next, node##_next = node->next)
#define LIST_ITEM(node, type, member) CONTAINER_OF(node, type, member)
