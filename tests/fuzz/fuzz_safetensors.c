/* Any bytes as the one shard of a folder whose config.json says next to nothing: read, configured from its shapes, and run for a
 * token. An even first byte: plain weights; an odd one: MLX's, 4 bits in groups of 32 unless the shapes say otherwise.
 *
 * Also held to: what a refusal costs in memory, and that whatever is accepted may be read to its last byte. */
#include "formats/checkpoint.h"
#include "fuzz_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char plain[] = "{\"model_type\":\"gemma3_text\",\"num_attention_heads\":1,\"sliding_window\":8,"
                                "\"max_position_embeddings\":256,\"sliding_window_pattern\":1}";
    static const char mlx[] = "{\"model_type\":\"gemma3_text\",\"num_attention_heads\":1,\"sliding_window\":8,"
                              "\"max_position_embeddings\":256,\"sliding_window_pattern\":1,"
                              "\"quantization\":{\"group_size\":32,\"bits\":4}}";
    ct_error err = {0};
    ct_config cfg;
    size_t before = ct_mem_live();
    const char *config = size > 0 && (data[0] & 1) ? mlx : plain;
    struct checkpoint_text text = {.config = ct_map_borrow(config, strlen(config)), .config_path = "config.json"};
    if (size == 0)
        return 0;
    ct_mem_peak_reset();
    ct_tensors *t = ct_tensors_new("fuzz", "safetensors");
    MUST(t && ct_tensors_add_map(t, ct_map_borrow(data + 1, size - 1), "fuzz.safetensors"));
    ct_status st = ct_checkpoint_read(t, &text, &err);
    MUST(ct_mem_peak() - before <= size + CT_DIRECTORY_BYTES);
    if (st == CT_OK)
        st = ct_tensors_index(t, &err);
    if (st == CT_OK) {
        use_everything(t);
        st = ct_config_read(&cfg, t, &err);
    }
    if (st == CT_OK)
        run_a_token(t);
    else
        must_be_a_sentence(st, &err);
    ct_tensors_close(t);
    MUST(ct_mem_live() == before);
    return 0;
}
