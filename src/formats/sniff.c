/* What a file that is not a GGUF might be instead: the mistakes that people make with downloads, called by name. */
#include <string.h>

#include "formats/directory.h"

static bool starts(const uint8_t *data, size_t size, const char *with)
{
    size_t n = strlen(with);
    return size >= n && memcmp(data, with, n) == 0;
}

/* The same without regard to case, behind white space. */
static bool starts_html(const uint8_t *data, size_t size)
{
    static const char *const openings[] = {"<!doctype html", "<html", "<head", "<?xml"};
    size_t at = 0;
    while (at < size && (data[at] == ' ' || data[at] == '\n' || data[at] == '\r' || data[at] == '\t'))
        at++;
    for (size_t i = 0; i < sizeof openings / sizeof openings[0]; i++) {
        size_t n = 0;
        while (openings[i][n] && at + n < size &&
               (data[at + n] >= 'A' && data[at + n] <= 'Z' ? data[at + n] + 32 : data[at + n]) == openings[i][n])
            n++;
        if (openings[i][n] == '\0')
            return true;
    }
    return false;
}

const char *ct_sniff(const uint8_t *data, size_t size)
{
    if (size == 0)
        return "an empty file";
    if (starts(data, size, "version https://git-lfs"))
        return "a Git LFS pointer, not the file it stands for; fetch it with 'git lfs pull'";
    if (starts_html(data, size))
        return "a web page, probably an error or a login page saved in place of the file; download it again";
    if (starts(data, size, "PK\x03\x04"))
        return "a zip archive or a PyTorch checkpoint; convert it to safetensors or GGUF first";
    if (starts(data, size, "\x1f\x8b") ||
        starts(data, size,
               "\xfd"
               "7zXZ") ||
        starts(data, size, "\x28\xb5\x2f\xfd"))
        return "a compressed file; unpack it first";
    if (starts(data, size, "lmgg") || starts(data, size, "fmgg") || starts(data, size, "tjgg") ||
        starts(data, size, "algg"))
        return "a file of a format older than GGUF; get a GGUF of the model";
    if (starts(data, size, "FUGG"))
        return "a GGUF file with its bytes swapped";
    uint64_t header = 0;
    for (size_t i = 0; size > 8 && i < 8; i++)
        header |= (uint64_t)data[i] << 8 * i;
    if (size > 8 && header >= 2 && header <= size - 8 && data[8] == '{')
        return "a safetensors file; name the folder it is in";
    if (data[0] == '{')
        return "a JSON file; name the model file itself, or its folder";
    size_t zeros = 0;
    while (zeros < size && zeros < 4096 && data[zeros] == 0)
        zeros++;
    if (zeros == size || zeros == 4096)
        return "nothing but zeros, as an interrupted download leaves it; download it again";
    return NULL;
}
