# SPDX-License-Identifier: Apache-2.0
# Needs python3 (3.10+) with venv, a C++20 compiler, and pip's registry. Everything else goes into
# .venv/ and build/; nothing is redone when nothing changed.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BUILD := build
STAMPS := $(BUILD)/stamps
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)
export CTEST_PARALLEL_LEVEL := $(JOBS)
PIP := $(VENV)/bin/python -m pip install --quiet
# The build tools are installed once, so that the package builds without isolation, incrementally.
PACKAGE_FLAGS := --no-build-isolation --config-settings=build-dir=$(BUILD)/python
BUILD_TOOLS := "scikit-build-core>=0.11" "pybind11>=3.0" "cmake>=3.21" ninja
# Installed with isolation: hnswlib is built from source and asks for numpy while it is.
DEMO_PEERS := hnswlib matplotlib tqdm

CORE := $(shell find CMakeLists.txt cpp -type f -not -path 'cpp/tests/*')
PACKAGE := $(CORE) $(shell find python bench/bigrain_bench -type f -not -name '*.pyc') pyproject.toml README.md LICENSE
CXX_FILES := $(shell find cpp python/bindings -name '*.cpp' -o -name '*.h')

.PHONY: help demo test lint cpp-test py-test asan tsan aarch64 py-asan fuzz bench claims smoke isa clean

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 16

demo: $(STAMPS)/package ## build, then watch an index being built and searched beside hnswlib
	@$(VENV)/bin/bigrain demo

test: lint cpp-test isa asan tsan aarch64 py-test smoke ## everything that must pass
	@echo "make test: all passed"

lint: $(STAMPS)/dev ## formatting, types, stubs, sizes
	ruff check .
	ruff format --check --quiet .
	mypy
	python -m mypy.stubtest bigrain._core
	clang-format --dry-run --Werror $(CXX_FILES)
	python tools/check_sizes.py

cpp-test: $(BUILD)/default/build.ninja ## C++ tests, release
	cmake --build --preset default
	ctest --preset default

asan: $(BUILD)/asan/build.ninja ## C++ tests under AddressSanitizer and UBSan
	cmake --build --preset asan
	ctest --preset asan

tsan: $(BUILD)/tsan/build.ninja ## threaded C++ tests under ThreadSanitizer
	cmake --build --preset tsan
	ctest --preset tsan

# Skipped, and said so, on machines without the cross compiler or the emulator.
aarch64: $(STAMPS)/tools ## kernel tests for 64-bit ARM under qemu
	@if command -v aarch64-linux-gnu-g++ && command -v qemu-aarch64; then \
	  cmake --preset aarch64 && cmake --build --preset aarch64 && ctest --preset aarch64; \
	else \
	  echo "aarch64: skipped, it needs g++-aarch64-linux-gnu and qemu-user"; \
	fi

isa: $(STAMPS)/package ## no wide instruction outside the files of its instruction set
	python tools/check_isa.py

py-test: $(STAMPS)/dev ## Python tests
	python -m pytest | tee $(BUILD)/pytest.log

# Without the test that limits the address space, and hnswlib, whose own faults end the process.
py-asan: $(STAMPS)/dev ## Python tests with the extension under AddressSanitizer and UBSan
	$(PIP) --no-build-isolation --no-deps --upgrade --target $(BUILD)/python-asan/site . \
	  --config-settings=build-dir=$(BUILD)/python-asan/build \
	  --config-settings=cmake.define.BIGRAIN_SANITIZE=address,undefined
	PYTHONPATH=$(BUILD)/python-asan/site ASAN_OPTIONS=detect_leaks=0 \
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" \
	  python -m pytest --deselect tests/test_files.py::test_header_fields_at_their_extremes \
	  --deselect tests/test_bench.py::test_a_run_beside_hnswlib

# Not part of `make test`: clang is no requirement. New inputs that reach new code stay in build/.
FUZZ_MINUTES ?= 10
export FUZZ_CXX ?= $(firstword $(shell command -v clang++ clang++-19 clang++-16 clang++-14) clang++)
fuzz: $(BUILD)/fuzz/build.ninja ## hostile files under libFuzzer for FUZZ_MINUTES (10); needs clang
	cmake --build --preset fuzz
	@mkdir -p $(BUILD)/fuzz/corpus $(BUILD)/fuzz/seeds
	$(BUILD)/fuzz/cpp/fuzz/make_corpus $(BUILD)/fuzz/seeds
	$(BUILD)/fuzz/cpp/fuzz/fuzz_open -max_len=1048576 -max_total_time=$$((60 * $(FUZZ_MINUTES))) \
	  -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 -verbosity=1 \
	  $(BUILD)/fuzz/corpus $(BUILD)/fuzz/seeds

bench: $(STAMPS)/dev ## micro-benchmarks of kernels, build and search
	python -m pytest bench/micro --benchmark-only

# Not part of `make test`: it takes an hour or more of one core. Results that lie in bench-results/ are not redone.
CLAIMS ?=
claims: $(STAMPS)/dev ## every published claim, with its control: runs, verdicts, docs/claims.md
	PYTHONPATH=bench python -m bigrain_claims --pages docs $(CLAIMS)

smoke: $(STAMPS)/smoke ## source distribution: build, install in a clean environment, use it

clean: ## removes build/ and .venv/
	rm -rf $(BUILD) $(VENV) dist

$(STAMPS)/tools:
	@echo "setting up $(VENV)"
	@mkdir -p $(STAMPS)
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) $(BUILD_TOOLS)
	@touch $@

$(STAMPS)/package: $(STAMPS)/tools $(PACKAGE)
	@echo "compiling the package and installing it into $(VENV)"
	@$(PIP) $(DEMO_PEERS)
	@$(PIP) $(PACKAGE_FLAGS) .
	@touch $@

# Only what else development needs: the package itself is current already.
$(STAMPS)/dev: pyproject.toml tests/requirements.txt | $(STAMPS)/package
	@echo "installing what tests and linters need into $(VENV)"
	@$(PIP) -r tests/requirements.txt
	@$(PIP) $(PACKAGE_FLAGS) ".[bench,dev]"
	@touch $@

$(BUILD)/%/build.ninja: $(STAMPS)/tools
	@cmake --preset $* >$(BUILD)/$*.log || { cat $(BUILD)/$*.log; exit 1; }

$(STAMPS)/smoke: $(STAMPS)/package tools/smoke.py
	@echo "building the source distribution and installing it into a clean environment"
	@rm -rf dist $(BUILD)/smoke
	@python -c 'from scikit_build_core.build import build_sdist; build_sdist("dist")'
	@$(PYTHON) -m venv $(BUILD)/smoke
	@$(BUILD)/smoke/bin/python -m pip install --quiet dist/bigrain-*.tar.gz
	@cd $(BUILD)/smoke && bin/python $(CURDIR)/tools/smoke.py
	@touch $@
