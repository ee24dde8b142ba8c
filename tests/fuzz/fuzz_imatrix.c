/* Any bytes as an importance matrix, of either kind of file. What is accepted is used as an encoder would. */
#include "convert/imatrix.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ct_imatrix *im;
    ct_error err = {0};
    ct_status st = ct_imatrix_read_memory(&im, "fuzz", data, size, &err);
    MUST((st == CT_OK) == (im != NULL));
    MUST(st == CT_OK || err.text[0] != '\0');
    for (size_t i = 0; im && i < im->n; i++) {
        const ct_imatrix_entry *e = &im->entries[i];
        MUST(ct_imatrix_find(im, e->name, e->cols) != NULL && e->rows > 0);
        for (size_t j = 0; j < e->cols; j++)
            MUST(e->mean[j] >= 0 && e->mean[j] <= 1e30f);
    }
    ct_imatrix_free(im);
    return 0;
}
