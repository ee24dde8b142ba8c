/* How much memory and how many cores the process is told it may use: control groups of both versions, nested, hidden and
 * exhausted, played by a /proc and a /sys of the test's own; and models that do not fit, refused before they are loaded. */
#include "scenario.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/system.h"
#include "carat_jobs.h"

#define GB ((size_t)1000000000)

static char root[64];

static void put_file(const char *path, const char *text)
{
    char name[256];
    snprintf(name, sizeof name, "%s%s", root, path);
    for (char *p = strchr(name + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = '\0';
        mkdir(name, 0700);
        *p = '/';
    }
    FILE *f = fopen(name, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* A machine with 8 GB, 6 of them available, and no groups. */
static int fresh(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/carat-limits-XXXXXX");
    assert_non_null(mkdtemp(root));
    put_file("/proc/meminfo", "MemTotal:  8000000 kB\nMemFree: 1000 kB\nMemAvailable: 6000000 kB\n");
    put_file("/proc/self/statm", "1000 500 100 1 0 300 0\n");
    return 0;
}

static int gone(void **state)
{
    (void)state;
    char command[128];
    files_redirect(NULL);
    snprintf(command, sizeof command, "rm -r %s", root);
    return system(command);
}

static void no_group(void **state)
{
    (void)state;
    files_redirect(root);
    assert_int_equal(ct_memory_total(), (size_t)8000000 * 1024);
    assert_int_equal(ct_memory_available(), (size_t)6000000 * 1024);
    assert_true(ct_cgroup_memory_limit() == SIZE_MAX && ct_cgroup_memory_left() == SIZE_MAX);
    assert_true(ct_cgroup_cpus() == 0);
    assert_true(ct_cores() >= 1);
}

/* The limit is the parent's; pages of files count as free. */
static void version_two(void **state)
{
    (void)state;
    put_file("/proc/self/cgroup", "0::/a/b\n");
    put_file("/sys/fs/cgroup/a/b/memory.max", "max\n");
    put_file("/sys/fs/cgroup/a/b/memory.current", "100\n");
    put_file("/sys/fs/cgroup/a/memory.max", "2000000000\n");
    put_file("/sys/fs/cgroup/a/memory.current", "1500000000\n");
    put_file("/sys/fs/cgroup/a/memory.stat", "anon 900000000\ninactive_file 400000000\nactive_file 100000000\nx 1\n");
    put_file("/sys/fs/cgroup/a/cpu.max", "150000 100000\n");
    put_file("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    files_redirect(root);
    assert_int_equal(ct_memory_total(), 2 * GB);
    assert_int_equal(ct_memory_available(), GB);
    assert_true(ct_cgroup_cpus() == 1.5);
    assert_true(ct_cores() <= 2);
}

static void exhausted(void **state)
{
    (void)state;
    put_file("/proc/self/cgroup", "0::/\n");
    put_file("/sys/fs/cgroup/memory.max", "1000000\n");
    put_file("/sys/fs/cgroup/memory.current", "3000000\n");
    files_redirect(root);
    assert_int_equal(ct_memory_available(), 1); /* 0 would mean that nobody knows */
    files_redirect(NULL);
    put_file("/proc/self/cgroup", "nonsense\n7:\n0::no\n");
    files_redirect(root);
    assert_true(ct_memory_available() > GB);
}

static void version_one(void **state)
{
    (void)state;
    put_file("/proc/self/cgroup", "12:pids:/x\n9:cpu,cpuacct:/x/y\n4:memory:/x/y\n0::/\n");
    put_file("/sys/fs/cgroup/memory/x/y/memory.limit_in_bytes", "9223372036854771712\n");
    put_file("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "3000000000\n");
    put_file("/sys/fs/cgroup/memory/x/memory.usage_in_bytes", "500000000\n");
    put_file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put_file("/sys/fs/cgroup/cpu/x/y/cpu.cfs_quota_us", "-1\n");
    put_file("/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "50000\n");
    put_file("/sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
    files_redirect(root);
    assert_int_equal(ct_memory_total(), 3 * GB);
    assert_int_equal(ct_memory_available(), 3 * GB - GB / 2);
    assert_true(ct_cgroup_cpus() == 0.5);
    assert_int_equal(ct_cores(), 1);
}

/* In a container the path is the host's, and only its end is mounted. */
static void hidden(void **state)
{
    (void)state;
    put_file("/proc/self/cgroup", "0::/system.slice/docker-1234.scope\n");
    put_file("/sys/fs/cgroup/memory.max", "2500000000\n");
    put_file("/sys/fs/cgroup/memory.current", "0\n");
    files_redirect(root);
    assert_int_equal(ct_memory_available(), 2 * GB + GB / 2);
}

static void address_space(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    print_message("skipped: a sanitizer takes all the address space there is\n");
    skip();
#endif
    struct rlimit before, now;
    getrlimit(RLIMIT_AS, &before);
    now = before;
    now.rlim_cur = (rlim_t)GB;
    files_redirect(root);
    assert_int_equal(setrlimit(RLIMIT_AS, &now), 0);
    size_t left = ct_memory_available();
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(left, GB - 1000 * (size_t)sysconf(_SC_PAGESIZE));
}

/* Both figures, and nothing is loaded. */
static void model_does_not_fit(void **state)
{
    (void)state;
    carat_model *m = NULL;
    carat_error err;
    struct holdings before = holdings_now();
    carat_model_options o = carat_model_options_default();
    put_file("/proc/self/cgroup", "0::/\n");
    put_file("/sys/fs/cgroup/memory.max", "30000000\n");
    put_file("/sys/fs/cgroup/memory.current", "21000000\n");
    files_redirect(root);
    if (carat_model_open(&m, "synthetic:270m:q4_0", &o, &err) != CARAT_ENOMEM || m != NULL)
        fail_msg("a model of 0.2 GB was opened with 0.01 GB of memory: %s", err.text);
    assert_non_null(strstr(err.text, "need 0.2"));
    assert_non_null(strstr(err.text, "but 0.01 GB"));
    holdings_expect(before, "a model that does not fit");
    /* The tiny one fits, and so does a short context, but not a long one. */
    o.threads = 1;
    assert_int_equal(carat_model_open(&m, TINY, &o, &err), CARAT_OK);
    carat_model_close(m);
    o.context = 32768;
    carat_model_info info;
    carat_status st = carat_model_open(&m, TINY, &o, &err);
    carat_model_get_info(m, &info);
    if (info.context >= 32768)
        assert_int_equal(st, CARAT_ENOMEM);
    carat_model_close(m);
    /* A session that does not fit says what would, or takes what there is. */
    o.context = 0;
    assert_int_equal(carat_model_open(&m, TINY, &o, &err), CARAT_OK);
    carat_model_get_info(m, &info);
    files_redirect(NULL);
    put_file("/sys/fs/cgroup/memory.current", "26000000\n");
    files_redirect(root);
    carat_session *s = NULL;
    carat_session_options so = carat_session_options_default();
    so.context = info.context;
    st = carat_session_create(&s, m, &so, &err);
    assert_int_equal(st, CARAT_ENOMEM);
    assert_non_null(strstr(err.text, "would fit"));
    so.context = 0;
    if (carat_session_create(&s, m, &so, &err) == CARAT_OK)
        assert_true(carat_session_context(s) < info.context);
    else
        assert_non_null(strstr(err.text, "0 positions would fit"));
    carat_session_free(s);
    carat_model_close(m);
}

static void loaded(void *arg, const char *what, double done, double total)
{
    (void)what, (void)done, (void)total;
    ++*(int *)arg;
}

/* A control group that leaves so many bytes. */
static void leave(size_t bytes)
{
    char text[32];
    snprintf(text, sizeof text, "%zu\n", bytes);
    files_redirect(NULL);
    put_file("/proc/self/cgroup", "0::/\n");
    put_file("/sys/fs/cgroup/memory.max", text);
    put_file("/sys/fs/cgroup/memory.current", "0\n");
    files_redirect(root);
}

/* Where the context and the type of the cache are known, both are counted before the first weight is read; a byte less than
 * needed is refused, and with what is needed the session comes to be. Snapshots, which nobody asked for, are what yields. */
static void cache_does_not_fit(void **state)
{
    (void)state;
    static const char *const types[] = {NULL, "bf16", "f32", "q8,q4", "f16,f32"};
    carat_inspection *i = NULL;
    carat_model *m = NULL;
    carat_session *s = NULL;
    carat_error err;
    int told = 0;
    assert_int_equal(carat_inspect(&i, TINY, &err), CARAT_OK);
    for (size_t k = 0; k < sizeof types / sizeof types[0]; k++) {
        carat_memory mem;
        carat_model_options o = carat_model_options_default();
        carat_session_options so = carat_session_options_default();
        o.threads = ct_cores(); /* as the inspection counts */
        o.context = so.context = carat_inspection_info(i)->context;
        o.kv = so.kv = types[k];
        o.progress = loaded;
        o.arg = &told;
        files_redirect(NULL);
        assert_int_equal(carat_inspection_memory(i, o.context, types[k], &mem, &err), CARAT_OK);
        assert_true(mem.snapshots > 0);
        told = 0;
        leave(mem.total - mem.snapshots - 1);
        assert_int_equal(carat_model_open(&m, TINY, &o, &err), CARAT_ENOMEM);
        assert_non_null(strstr(err.text, "a session of 2048 tokens"));
        assert_int_equal(told, 0);
        leave(mem.total - mem.snapshots);
        assert_int_equal(carat_model_open(&m, TINY, &o, &err), CARAT_OK);
        assert_true(told > 0);
        leave(mem.total - mem.snapshots - mem.weights);
        assert_int_equal(carat_session_create(&s, m, &so, &err), CARAT_OK);
        assert_int_equal(carat_session_bytes(s), mem.total - mem.snapshots - mem.weights);
        carat_session_free(s);
        leave(mem.total - mem.snapshots - mem.weights - 1);
        assert_int_equal(carat_session_create(&s, m, &so, &err), CARAT_ENOMEM);
        so.snapshots = 1; /* these were asked for */
        leave(mem.total - mem.snapshots - mem.weights);
        assert_int_equal(carat_session_create(&s, m, &so, &err), CARAT_ENOMEM);
        carat_model_close(m);
    }
    carat_model_options o = carat_model_options_default();
    o.kv = "q5";
    assert_int_equal(carat_model_open(&m, TINY, &o, &err), CARAT_EINVAL);
    assert_non_null(strstr(err.text, "q5"));
    carat_inspection_free(i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_group, fresh, gone),
        cmocka_unit_test_setup_teardown(version_two, fresh, gone),
        cmocka_unit_test_setup_teardown(exhausted, fresh, gone),
        cmocka_unit_test_setup_teardown(version_one, fresh, gone),
        cmocka_unit_test_setup_teardown(hidden, fresh, gone),
        cmocka_unit_test_setup_teardown(address_space, fresh, gone),
        cmocka_unit_test_setup_teardown(model_does_not_fit, fresh, gone),
        cmocka_unit_test_setup_teardown(cache_does_not_fit, fresh, gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
