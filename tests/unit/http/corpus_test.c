/* The corpus of raw requests (tests/wire/corpus/README.md) through the server codec. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/h1_trace.h"
#include "tests/support/unit.h"

#define CORPUS    "tests/wire/corpus"
#define INPUT_MAX (1 << 18)
#define FEWEST    120

struct corpus_file {
    char name[256];
    uint8_t bytes[INPUT_MAX];
    size_t len;
};

static char *output_folder;

static void read_file(struct corpus_file *file)
{
    char path[512];
    (void)snprintf(path, sizeof path, CORPUS "/%s", file->name);
    FILE *stream = fopen(path, "rb");
    assert_non_null(stream);
    file->len = fread(file->bytes, 1, sizeof file->bytes, stream);
    (void)fclose(stream);
    assert_true(file->len < sizeof file->bytes);
}

/* The verdict in the words of the first line. */
static void run(struct relay *relay, struct slice input, bool whole, char verdict[128])
{
    relay_init(relay);
    relay_run(relay, input, whole ? NULL : cut_every_byte, NULL);
    if (relay->stopped) {
        (void)snprintf(verdict, 128, "# %u %s %u", codec_bad_status(relay->refused),
                       codec_bad_name(relay->refused), relay->requests);
        return;
    }
    struct codec_event ev;
    bool complete = codec_eof(relay->server, &ev) == CODEC_MORE;
    (void)snprintf(verdict, 128, "# %s %u", complete ? "ok" : "more", relay->requests);
}

static void write_file(const char *name, const char *ending, struct slice bytes)
{
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/%.*s%s", output_folder, (int)(strlen(name) - 5), name,
                   ending);
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(bytes.at, 1, bytes.len, stream), bytes.len);
    (void)fclose(stream);
}

static void keep_upstream(const char *name, const struct relay *relay)
{
    struct slice up = trace_flatten(&relay->up);
    char count[16];
    int len = snprintf(count, sizeof count, "%u", relay->requests);
    write_file(name, ".up", up);
    write_file(name, ".count", slice_of(count, (size_t)len));
    free((void *)(uintptr_t)up.at);
}

static int check_file(const struct corpus_file *file)
{
    struct slice input = slice_of(file->bytes, file->len);
    struct slice expected = slice_cut(&input, '\n');
    int wrong = 0;
    for (int whole = 0; whole < 2; whole++) {
        struct relay relay;
        char verdict[128];
        run(&relay, input, whole == 1, verdict);
        if (!slice_eq(slice_of_text(verdict), expected)) {
            print_message("%s: expected \"%.*s\", got \"%s\"\n", file->name, SLICE_ARG(expected),
                          verdict);
            wrong = 1;
        }
        if (whole == 1 && output_folder != NULL) {
            keep_upstream(file->name, &relay);
        }
        relay_fini(&relay);
    }
    return wrong;
}

static void test_every_input_gets_its_verdict(void **state)
{
    (void)state;
    static struct corpus_file file;
    DIR *folder = opendir(CORPUS);
    assert_non_null(folder);
    int wrong = 0;
    int count = 0;
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        if (!slice_ends(slice_of_text(entry->d_name), SLICE(".http"))) {
            continue;
        }
        (void)snprintf(file.name, sizeof file.name, "%s", entry->d_name);
        read_file(&file);
        wrong += check_file(&file);
        count++;
    }
    (void)closedir(folder);
    assert_int_equal(wrong, 0);
    assert_true(count >= FEWEST);
}

int main(int argc, char **argv)
{
    output_folder = argc > 1 ? argv[1] : NULL;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_input_gets_its_verdict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
