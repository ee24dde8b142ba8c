/* Any text through a small vocabulary of Gemma's kind, by scores and by merges: the same ids from both, and the text back. */
#include "fuzz.h"
#include "fuzz_text.h"
#include "micro_model.h"

static ct_vocab *vocab[2];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    for (int way = 0; way < 2; way++) {
        gguf_writer w;
        ct_tensors *t;
        gguf_begin(&w, 3, 32);
        micro_tokenizer(&w, &(micro_options){.text = way ? MICRO_MERGES : MICRO_SCORES, .chat = true});
        gguf_end(&w);
        MUST(ct_gguf_open_memory(&t, "micro.gguf", w.file.data, w.file.n, NULL) == CT_OK);
        MUST(ct_vocab_create(&vocab[way], t, NULL) == CT_OK && vocab[way] != NULL);
        ct_tensors_close(t);
        gguf_free(&w);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ct_ids ids[2][2];
    for (int way = 0; way < 2; way++)
        put_through(vocab[way], (const char *)data, size, false, ids[way]);
    for (int special = 0; special < 2; special++) {
        const ct_ids *a = &ids[0][special], *b = &ids[1][special];
        MUST(a->n == b->n && (a->n == 0 || memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0));
        ct_ids_deinit(&ids[0][special]);
        ct_ids_deinit(&ids[1][special]);
    }
    return 0;
}
