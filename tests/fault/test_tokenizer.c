/* The tokenizers of folders, read and written on a machine where every call of the system fails once. */
#include "scenario.h"

#include "formats/directory.h"
#include "formats/tokenizer.h"
#include "tokenizer_files.h"

static char json_folder[] = "/tmp/carat-fault-json-XXXXXX", model_folder[] = "/tmp/carat-fault-model-XXXXXX",
            out_folder[] = "/tmp/carat-fault-out-XXXXXX";

struct tokens {
    struct digest digest;
    ct_tensors *json, *model;
};

static carat_status said(ct_status st, const ct_error *e, carat_error *err)
{
    err->code = (carat_status)st;
    memcpy(err->text, e->text, sizeof err->text < sizeof e->text ? sizeof err->text : sizeof e->text);
    err->text[sizeof err->text - 1] = '\0';
    return (carat_status)st;
}

static carat_status read_into(void *state, ct_tensors **out, const char *folder, carat_error *err)
{
    ct_error e = {0};
    ct_tensors *t = ct_tensors_new(folder, "folder");
    ct_status st = t ? ct_tokenizer_read(t, folder, &e) : ct_fail(&e, CT_ENOMEM, folder, "out of memory in the test");
    if (st == CT_OK)
        st = ct_tensors_index(t, &e);
    for (size_t i = 0; st == CT_OK && i < ct_tensors_kv_count(t); i++) {
        const ct_kv_pair *kv = ct_tensors_kv_at(t, i);
        digest_add(state, kv->key.data, kv->key.len);
        for (uint64_t k = 0; kv->spans && k < kv->count; k++)
            digest_add(state, ct_kv_str(kv, k).data, ct_kv_str(kv, k).len);
    }
    if (st == CT_OK)
        *out = t;
    else
        ct_tensors_close(t);
    return said(st, &e, err);
}

static carat_status read_json(void *state, carat_error *err)
{
    return read_into(state, &((struct tokens *)state)->json, json_folder, err);
}

static carat_status read_model(void *state, carat_error *err)
{
    return read_into(state, &((struct tokens *)state)->model, model_folder, err);
}

static carat_status write_json(void *state, carat_error *err)
{
    ct_error e = {0};
    char path[64];
    snprintf(path, sizeof path, "%s/tokenizer.json", out_folder);
    return said(ct_tokenizer_json_write(path, ((struct tokens *)state)->model, &e), &e, err);
}

static carat_status write_config(void *state, carat_error *err)
{
    ct_error e = {0};
    char path[64];
    snprintf(path, sizeof path, "%s/tokenizer_config.json", out_folder);
    return said(ct_tokenizer_config_write(path, ((struct tokens *)state)->json, &e), &e, err);
}

static void close_all(void *state)
{
    struct tokens *k = state;
    ct_tensors_close(k->json);
    ct_tensors_close(k->model);
}

static void reading_and_writing(void **state)
{
    (void)state;
    static const enum fault_kind kinds[] = {FAULT_ALLOC, FAULT_MAP,  FAULT_OPEN,  FAULT_STAT,
                                            FAULT_WRITE, FAULT_SYNC, FAULT_CLOSE, FAULT_RENAME};
    static const step steps[] = {{"read json", read_json},
                                 {"read model", read_model},
                                 {"write json", write_json},
                                 {"write config", write_config}};
    static const scenario sc = {"tokenizers", steps, N_OF(steps), 0, sizeof(struct tokens), close_all, NULL};
    scenario_all(&sc, kinds, N_OF(kinds), 60);
}

static void save(const char *folder, const char *name, const void *data, size_t n)
{
    char path[64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static int begin(void **state)
{
    (void)state;
    static const char config[] =
        "{\"added_tokens_decoder\": {\"4\": {\"content\": \"<tool>\"}}, \"chat_template\": \"x\"}";
    struct fixture f;
    if (mkdtemp(json_folder) == NULL || mkdtemp(model_folder) == NULL || mkdtemp(out_folder) == NULL)
        return -1;
    fixture_init(&f);
    gguf_bytes json = tokenizer_json(&f, JSON_OTHER_MERGES), model = tokenizer_model(&f);
    save(json_folder, "tokenizer.json", json.data, json.n);
    save(json_folder, "chat_template.jinja", "{{ x }}", 7);
    save(model_folder, "tokenizer.model", model.data, model.n);
    save(model_folder, "tokenizer_config.json", config, strlen(config));
    free(json.data);
    free(model.data);
    return 0;
}

static int end(void **state)
{
    (void)state;
    static const char *const names[] = {"tokenizer.json", "tokenizer.model", "tokenizer_config.json",
                                        "chat_template.jinja"};
    const char *const folders[] = {json_folder, model_folder, out_folder};
    int left = 0;
    for (size_t i = 0; i < N_OF(folders); i++) {
        for (size_t k = 0; k < N_OF(names); k++) {
            char path[64];
            snprintf(path, sizeof path, "%s/%s", folders[i], names[k]);
            unlink(path);
        }
        left += rmdir(folders[i]) != 0; /* a temporary file would keep it */
    }
    return left;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reading_and_writing)};
    return cmocka_run_group_tests(tests, begin, end);
}
