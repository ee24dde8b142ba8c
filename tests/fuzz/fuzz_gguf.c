/* Any bytes as a GGUF file: opened in memory, configured, its vocabulary made, loaded, and run for a token.
 *
 * Also held to: what a refusal costs in memory, and that whatever is accepted may be read to its last byte. */
#include "fuzz_model.h"
#include "text/vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ct_error err = {0};
    ct_tensors *t;
    ct_vocab *vocab = NULL;
    ct_config cfg;
    size_t before = ct_mem_live();
    ct_mem_peak_reset();
    ct_status st = ct_gguf_open_memory(&t, "fuzz.gguf", data, size, &err);
    MUST(ct_mem_peak() - before <= size + CT_DIRECTORY_BYTES);
    if (st != CT_OK) {
        MUST(t == NULL);
        must_be_a_sentence(st, &err);
        return 0;
    }
    use_everything(t);
    ct_status would = ct_config_read(&cfg, t, &err);
    if (would != CT_OK)
        must_be_a_sentence(would, &err);
    st = ct_vocab_create(&vocab, t, &err);
    MUST(ct_mem_peak() - before <= size + CT_VOCAB_BYTES);
    if (st != CT_OK)
        must_be_a_sentence(st, &err);
    ct_vocab_free(vocab);
    if (would == CT_OK && st == CT_OK)
        run_a_token(t);
    ct_tensors_close(t);
    MUST(ct_mem_live() == before);
    return 0;
}
