/* Any bytes as the small files of a folder: 'c' and a config.json, 'g' and a generation_config.json, 'i' and an index. What is
 * accepted of a configuration becomes the metadata of a directory that model/config.c may read. */
#include "formats/checkpoint.h"
#include "fuzz.h"
#include "model/config.h"

/* The metadata that a configuration makes, of tensors that are not there. */
static ct_status use(const struct hf_config *c, ct_tensors *t, ct_error *err)
{
    ct_config cfg;
    ct_status st = ct_tensors_index(t, err);
    if (st == CT_OK)
        st = ct_hf_config_put(c, t, "config.json", err);
    if (st == CT_OK)
        st = ct_tensors_index(t, err);
    if (st == CT_OK)
        st = ct_config_read(&cfg, t, err);
    return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ct_error err = {0};
    ct_str *names;
    size_t n, before = ct_mem_live();
    struct hf_config c = {.bos = UINT32_MAX};
    if (size == 0)
        return 0;
    ct_map map = ct_map_borrow(data + 1, size - 1);
    ct_mem_peak_reset();
    ct_tensors *t = ct_tensors_new("fuzz", "safetensors");
    MUST(t);
    t->naming = CT_NAMES_HF;
    ct_status st = data[0] == 'g'   ? ct_hf_generation_read(&c, t, "generation_config.json", &map, &err)
                   : data[0] == 'i' ? ct_hf_index_files(&names, &n, t, "index.json", &map, &err)
                                    : ct_hf_config_read(&c, "config.json", &map, &err);
    if (st == CT_OK && data[0] == 'i') {
        MUST(n > 0);
        for (size_t i = 0; i < n; i++)
            MUST(names[i].len > 12 && memchr(names[i].data, '/', names[i].len) == NULL);
    } else if (st == CT_OK) {
        st = use(&c, t, &err);
    }
    if (st != CT_OK)
        must_be_a_sentence(st, &err);
    MUST(ct_mem_peak() - before <= size + CT_DIRECTORY_BYTES);
    ct_tensors_close(t);
    MUST(ct_mem_live() == before);
    return 0;
}
