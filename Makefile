# carat's front door. The build itself is CMakeLists.txt; everything made lies in build/, and ./carat is the program.
#
#   make            build                          make bench      build, fetch the default model, measure
#   make test       build and run every test       make help       the rest
#
# Each target first installs what it misses (scripts/deps), and costs next to nothing when there is nothing to do.
BUILD  ?= build/release
PREFIX ?= /usr/local
ARGS   ?=
SAN    ?= address

cmake = $$(if [ -x build/tools/bin/cmake ]; then echo build/tools/bin/cmake; else echo cmake; fi)
ctest = $$(if [ -x build/tools/bin/ctest ]; then echo build/tools/bin/ctest; else echo ctest; fi)
ninja = $$(if command -v ninja >/dev/null; then echo -G Ninja; fi)
jobs  = $$(getconf _NPROCESSORS_ONLN)
# $(call configure,folder,options): once; cmake itself notices later changes. What it says matters only if it fails.
configure = [ -e $(1)/CMakeCache.txt ] || { mkdir -p $(1) && $(cmake) -S . -B $(1) $(ninja) $(2) >$(1)/configure.log 2>&1; } \
            || { cat $(1)/configure.log >&2; rm -f $(1)/CMakeCache.txt; exit 1; }
# $(call build,folder,more): with progress on a terminal; elsewhere only what compilers say.
build = if [ -t 2 ]; then $(cmake) --build $(1) -j $(jobs) $(2) >&2; else \
        said=$$($(cmake) --build $(1) -j $(jobs) $(2) $$([ ! -e $(1)/build.ninja ] || echo -- --quiet) 2>&1); status=$$?; \
        printf '%s\n' "$$said" | grep -v -e '^-- ' -e '^ninja: no work to do' -e '^$$' >&2; [ $$status = 0 ]; fi
# Tests were left out if cmocka was missing when the folder was configured: look again.
find_cmocka = grep -q '^CMOCKA_FOUND:INTERNAL=1' $(1)/CMakeCache.txt || $(cmake) $(1) >$(1)/configure.log

.PHONY: all cuda bench test check lint format sanitize coverage fuzz deb install clean distclean help
.NOTPARALLEL:

all: ## build the library, ./carat, its manual pages and completions
	@scripts/deps build
	@$(call configure,$(BUILD))
	@$(call build,$(BUILD),--target carat carat_shared described)
	@[ "$$(readlink carat)" = $(BUILD)/carat ] || ln -sfn $(BUILD)/carat carat

bench: all ## build, fetch the default model, measure (ARGS="--json" etc.)
	@scripts/deps fetch
	@scripts/fetch-model
	@./carat bench $(ARGS)

cuda: ## build the plug-in for NVIDIA cards beside ./carat (CUDA_ARCHS="80;90a;120"; else this machine's)
	@scripts/deps build
	@mkdir -p $(BUILD) && $(cmake) -S . -B $(BUILD) $(ninja) -DCARAT_CUDA=ON $(if $(CUDA_ARCHS),"-DCUDA_ARCHS=$(CUDA_ARCHS)") \
	    >$(BUILD)/configure.log 2>&1 || { cat $(BUILD)/configure.log >&2; exit 1; }
	@$(call build,$(BUILD),--target carat carat_shared carat_cuda)
	@[ "$$(readlink carat)" = $(BUILD)/carat ] || ln -sfn $(BUILD)/carat carat

test: ## build and run every test; CARAT_NO_FETCH=1 does without the default model
	@scripts/deps build test fetch
	@$(call configure,$(BUILD))
	@$(call find_cmocka,$(BUILD))
	@$(call build,$(BUILD))
	@[ "$$(readlink carat)" = $(BUILD)/carat ] || ln -sfn $(BUILD)/carat carat
	@[ -n "$$CARAT_NO_FETCH" ] || scripts/fetch-model || \
	    echo "carat: no default model: the tests that need it will be skipped" >&2
	@$(ctest) --test-dir $(BUILD) --output-on-failure -j $(jobs) $(ARGS)

check: all ## compare every kernel of every backend on this machine with the reference
	@./carat check $(ARGS)

lint: ## format, warnings of two compilers, who includes whom, banned functions, symbols
	@scripts/deps lint test
	@scripts/lint

format: ## apply .clang-format
	@scripts/deps lint
	@scripts/lint --fix

sanitize: ## every test under the address sanitizer (SAN=thread or valgrind: those; ARGS=--ci: in five minutes)
	@scripts/sanitize $(ARGS) $(SAN)

coverage: ## which lines of src/ the tests run, room by room (ARGS="engine api": every line of these that was not)
	@scripts/deps build test
	@scripts/coverage $(ARGS)

fuzz: ## fuzz every parser for FUZZ_TIME seconds each (3600; ARGS="gguf vocab": these alone; ARGS=--quick: 2 minutes in all)
	@scripts/deps build lint
	@scripts/fuzz $(ARGS)

deb: ## Debian packages of the program, the library and its headers, in build/deb, and try them
	@scripts/deps deb
	@$(call configure,build/deb,-DCARAT_DEBIAN=ON -DCARAT_TESTS=OFF -DCMAKE_INSTALL_PREFIX=/usr \
	    -DCMAKE_C_FLAGS_RELEASE="-O3 -DNDEBUG")
	@$(call build,build/deb)
	@rm -f build/deb/*.deb; $(cmake) --build build/deb --target package >build/deb/package.log 2>&1 || \
	    { cat build/deb/package.log >&2; exit 1; }
	@scripts/check_deb build/deb || [ $$? = 77 ]

install: all ## install under PREFIX (/usr/local), inside DESTDIR
	@$(cmake) --install $(BUILD) --prefix $(PREFIX)

clean: ## remove what was built; installed tools and models stay
	@rm -rf $(BUILD) build/lint build/address* build/thread build/valgrind build/coverage build/deb build/fuzz carat

distclean: ## remove everything that git does not know here
	@rm -rf build carat

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
