/* Text to ids.
 *
 * A text is cut at the pieces that are never split (leftmost, longest: the trie), at bytes that are no character and at
 * characters the vocabulary lacks (both become byte pieces), and before spaces where no piece of the vocabulary reaches
 * across: none of these cuts can change an id, since a merge always makes a piece. What lies between two cuts is a word;
 * in it the adjacent pair of lowest rank is merged again and again, by a heap over a linked list, O(n log n).
 * Order of merging, as in Gemma's own list: rank of the merged piece, then the longest left part, then leftmost. */
#include "base/mem.h"
#include "text/pieces.h"

#define NO_SYMBOL UINT32_MAX
#define WORD_MAX ((size_t)1 << 31) /* positions in a word are 32 bits wide */

struct symbol {
    uint32_t start;      /* first byte in the word's text */
    uint32_t prev, next; /* neighbours; next of the last is the sentinel behind it */
    int32_t id;          /* -1 once merged into its left neighbour */
    int32_t merged;      /* piece that this symbol and the next would make, or -1 */
};

struct word {
    const ct_vocab *v;
    char *text; /* in space form */
    size_t n, room;
    struct symbol *sym; /* [n_sym], and room for the sentinel */
    size_t n_sym, sym_room;
    uint64_t *heap; /* keys; eight children a node, so that a level costs one or two cache lines */
    size_t n_heap, heap_room;
    ct_ids *out;
    ct_error *err;
};

static ct_status no_memory(ct_error *err, size_t bytes)
{
    return ct_fail(err, CT_ENOMEM, "text", "no memory to tokenize: %zu bytes more could not be had", bytes);
}

/* Makes room for one more element of size bytes each. */
static ct_status grow(void **p, size_t *room, size_t size, ct_error *err)
{
    size_t more = *room < 64 ? 128 : *room + *room / 2, bytes;
    void *bigger = ct_mul_ok(more, size, &bytes) ? ct_realloc(*p, bytes) : NULL;
    if (bigger == NULL)
        return no_memory(err, more * size);
    *p = bigger;
    *room = more;
    return CT_OK;
}

ct_status ct_ids_push(ct_ids *a, int32_t id, ct_error *err)
{
    if (a->n == a->room) {
        void *p = a->ids;
        ct_status st = grow(&p, &a->room, sizeof *a->ids, err);
        a->ids = p;
        if (st != CT_OK)
            return st;
    }
    a->ids[a->n++] = id;
    return CT_OK;
}

void ct_ids_deinit(ct_ids *a)
{
    ct_free(a->ids);
    *a = (ct_ids){0};
}

/* ---- the heap: smallest key first -------------------------------------------------------------------------------- */

static void heap_down(uint64_t *heap, size_t n, size_t at)
{
    uint64_t key = heap[at];
    for (;;) {
        size_t first = at * 8 + 1, last = first + 8 < n ? first + 8 : n;
        if (first >= n)
            break;
        size_t least = first;
        for (size_t i = first + 1; i < last; i++)
            least = heap[i] < heap[least] ? i : least;
        if (heap[least] >= key)
            break;
        heap[at] = heap[least];
        at = least;
    }
    heap[at] = key;
}

static ct_status heap_append(struct word *w, uint64_t key)
{
    if (w->n_heap == w->heap_room) {
        void *p = w->heap;
        ct_status st = grow(&p, &w->heap_room, sizeof *w->heap, w->err);
        w->heap = p;
        if (st != CT_OK)
            return st;
    }
    w->heap[w->n_heap++] = key;
    return CT_OK;
}

static ct_status heap_push(struct word *w, uint64_t key)
{
    ct_status st = heap_append(w, key);
    if (st != CT_OK)
        return st;
    size_t at = w->n_heap - 1;
    for (; at > 0 && w->heap[(at - 1) / 8] > key; at = (at - 1) / 8)
        w->heap[at] = w->heap[(at - 1) / 8];
    w->heap[at] = key;
    return CT_OK;
}

static uint64_t heap_pop(struct word *w)
{
    uint64_t key = w->heap[0];
    w->heap[0] = w->heap[--w->n_heap];
    if (w->n_heap > 1)
        heap_down(w->heap, w->n_heap, 0);
    return key;
}

/* ---- merging ------------------------------------------------------------------------------------------------------ */

/* Looks up what symbol i and the next make, keeps it in sym[i].merged, and gives the pair's key: rank, then how much
 * shorter than 255 bytes the left part is, then the position. False when the two make nothing. */
static bool pair_look(struct word *w, uint32_t i, uint64_t *key)
{
    const ct_vocab *v = w->v;
    struct symbol *s = &w->sym[i];
    s->merged = -1;
    if (s->next == w->n_sym)
        return false;
    const struct symbol *right = &w->sym[s->next];
    uint64_t rank, left;
    if (v->pairs == NULL) {
        uint32_t bytes = w->sym[right->next].start - s->start;
        int32_t id = bytes <= v->max_merge ? ct_pieces_find(v, w->text + s->start, bytes) : -1;
        if (id < 0 || !(v->flags[id] & PIECE_MERGE))
            return false;
        uint32_t n_left = right->start - s->start;
        s->merged = id;
        rank = v->rank[id];
        left = n_left < 255 ? 255 - n_left : 0;
    } else {
        const ct_pair *p = ct_pairs_find(v, s->id, right->id);
        if (p == NULL)
            return false;
        s->merged = p->merged;
        rank = p->rank;
        left = 0;
    }
    *key = rank << 40 | left << 32 | i;
    return true;
}

/* Is this key, popped from the heap, still what symbol i and its neighbour are worth? */
static bool pair_holds(struct word *w, uint32_t i, uint64_t key)
{
    const struct symbol *s = &w->sym[i];
    if (s->id < 0 || s->merged < 0)
        return false;
    if (w->v->pairs != NULL) {
        uint64_t now;
        return pair_look(w, i, &now) && now == key;
    }
    uint32_t n_left = w->sym[s->next].start - s->start;
    uint64_t left = n_left < 255 ? 255 - n_left : 0;
    return key >> 32 == ((uint64_t)w->v->rank[s->merged] << 8 | left);
}

static ct_status word_merge(struct word *w)
{
    uint32_t n = (uint32_t)w->n_sym;
    uint64_t key;
    ct_status st = CT_OK;
    w->sym[n] = (struct symbol){.start = (uint32_t)w->n, .prev = n - 1, .next = n, .id = -1, .merged = -1};
    w->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) {
        w->sym[i].prev = i == 0 ? NO_SYMBOL : i - 1;
        w->sym[i].next = i + 1;
    }
    for (uint32_t i = 0; i < n && st == CT_OK; i++)
        if (pair_look(w, i, &key))
            st = heap_append(w, key);
    for (size_t i = w->n_heap > 1 ? (w->n_heap - 2) / 8 + 1 : 0; i-- > 0;)
        heap_down(w->heap, w->n_heap, i);
    while (w->n_heap > 0 && st == CT_OK) {
        key = heap_pop(w);
        uint32_t i = (uint32_t)key;
        if (!pair_holds(w, i, key))
            continue;
        struct symbol *s = &w->sym[i], *right = &w->sym[s->next];
        s->id = s->merged;
        s->next = right->next;
        right->id = -1;
        w->sym[s->next].prev = i;
        if (pair_look(w, i, &key))
            st = heap_push(w, key);
        if (st == CT_OK && s->prev != NO_SYMBOL && pair_look(w, s->prev, &key))
            st = heap_push(w, key);
    }
    for (uint32_t i = 0; i < n && st == CT_OK; i = w->sym[i].next)
        st = ct_ids_push(w->out, w->sym[i].id, w->err);
    return st;
}

static ct_status word_end(struct word *w)
{
    ct_status st = CT_OK;
    if (w->n_sym == 1)
        st = ct_ids_push(w->out, w->sym[0].id, w->err);
    else if (w->n_sym > 1)
        st = word_merge(w);
    w->n = w->n_sym = 0;
    return st;
}

/* ---- cutting ------------------------------------------------------------------------------------------------------ */

static ct_status word_add(struct word *w, const char *s, size_t n, int32_t id)
{
    void *p;
    ct_status st = CT_OK;
    if (w->n + n > w->room) {
        p = w->text;
        st = grow(&p, &w->room, 1, w->err);
        w->text = p;
    }
    if (st == CT_OK && w->n_sym + 2 > w->sym_room) { /* one more for the sentinel */
        p = w->sym;
        st = grow(&p, &w->sym_room, sizeof *w->sym, w->err);
        w->sym = p;
    }
    if (st != CT_OK)
        return st;
    w->sym[w->n_sym++] = (struct symbol){.start = (uint32_t)w->n, .id = id};
    for (size_t i = 0; i < n; i++)
        w->text[w->n + i] = s[i];
    w->n += n;
    return CT_OK;
}

static ct_status add_bytes(struct word *w, const char *s, size_t n)
{
    ct_status st = word_end(w);
    for (size_t i = 0; i < n && st == CT_OK; i++)
        st = ct_ids_push(w->out, w->v->byte_id[(uint8_t)s[i]], w->err);
    return st;
}

/* Adds the character (or the broken byte) at s; its length in the text in *len. */
static ct_status add_char(struct word *w, const char *s, size_t n, size_t *len)
{
    const ct_vocab *v = w->v;
    uint8_t c = (uint8_t)s[0];
    int step = c < 0x80 ? 1 : ct_utf8_step((const uint8_t *)s, n);
    *len = step > 0 ? (size_t)step : 1;
    bool space = c == ' ' || ct_is_wide_space(s, n);
    int32_t id = -1;
    if (space)
        id = v->ascii[' '];
    else if (c < 0x80)
        id = v->ascii[c];
    else if (step > 0 && (id = ct_pieces_find(v, s, *len)) >= 0 && !(v->flags[id] & PIECE_CHAR))
        id = -1;
    if (id < 0)
        return add_bytes(w, s, *len);
    if (w->n > 0 && ((space && !v->joins[(uint8_t)w->text[w->n - 1]]) || w->n + 4 > WORD_MAX)) {
        ct_status st = word_end(w); /* a word of 2 GiB is cut where it stands: nobody has a context for it */
        if (st != CT_OK)
            return st;
    }
    return word_add(w, space ? " " : s, space ? 1 : *len, id);
}

ct_status ct_tokenize(const ct_vocab *v, const char *text, size_t n, bool bos, bool special, ct_ids *out, ct_error *err)
{
    struct word w = {.v = v, .out = out, .err = err};
    size_t len = 0;
    ct_status st = bos ? ct_ids_push(out, v->bos, err) : CT_OK;
    if (st == CT_OK && v->space_prefix && n > 0 && text[0] != ' ')
        st = add_char(&w, " ", 1, &len);
    for (size_t i = 0; i < n && st == CT_OK; i += len) {
        int32_t id = v->starts[(uint8_t)text[i]] ? ct_trie_match(v, text + i, n - i, special, &len) : -1;
        if (id < 0) {
            st = add_char(&w, text + i, n - i, &len);
            continue;
        }
        st = word_end(&w);
        if (st == CT_OK)
            st = ct_ids_push(out, id, err);
    }
    if (st == CT_OK)
        st = word_end(&w);
    ct_free(w.text);
    ct_free(w.sym);
    ct_free(w.heap);
    return st;
}
