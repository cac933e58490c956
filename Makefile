# The targets are for people; the work is done by scripts/, which take these variables from the environment.

export PG_CONFIG   # the PostgreSQL to install into, or to make the private server from; default: pg_config, the newest one
export DESTDIR     # install below this directory, for packagers
export PYTHONDIR   # where the Python side goes; default: pgml_transform in PostgreSQL's library directory
export WORKDIR     # what demo, test and server make lies here; default: .work
export PYTEST_ARGS # for test, such as PYTEST_ARGS='-k errors'
export BENCH_ARGS  # for bench
export MODELS      # for demo and server, hub or samples; default for demo: hub, where it answers

.PHONY: help install uninstall demo test check server stop psql models bench clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 20

install: ## Install the extension into PostgreSQL (often: sudo make install)
	@scripts/install
	@echo "Installed. Then in a database: CREATE EXTENSION pgml_transform CASCADE"

uninstall: ## Take away what install put there
	@scripts/install remove

demo: ## Get all that is needed, start a private server, run the README's first queries
	@scripts/demo

test: ## Get all that is needed, check the code, run the tests on a private server
	@scripts/test

check: ## Check the code: ruff and mypy
	@scripts/check

server: ## Prepare and start the private server
	@scripts/models
	@scripts/server start

stop: ## Stop the private server
	@scripts/server stop

psql: ## Open psql on the private server
	@scripts/server psql

models: ## Build the sample models
	@scripts/models

bench: ## Run the measurements
	@scripts/bench

clean: ## Stop the private server and remove what demo and test made
	@scripts/clean
