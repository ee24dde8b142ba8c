/* A SentencePiece model and a tokenizer_config.json: see fuzz_tokenizer.h. */
#include "fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tokenizer_from(ct_tokenizer_model_parse, data, size);
    return 0;
}
