# make demo   see every mode work      make lab   see it move      make test   the one gate
.PHONY: site demo test checks nightly steady installed lab lab-shell lab-tests lab-picture dashboard-pictures chat-picture lab-moves lab-nats lab-rivals chaos floors reference fuzz soak rules vectors format clean js demo-web web-picture

PYTHON ?= python3
# Programs that tests start, and the tests themselves, are compiled once and not by every process:
# some environments say otherwise.
export PYTHONDONTWRITEBYTECODE =
BIN = .venv/bin
# Four workers on two cores, as much of it is waiting; tests/support/groups.py says what goes to one of them, one after the other.
GATE = -m pytest -n 4 $(ARGS)

.venv/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,cluster]'
	# Types for programs elsewhere: checkers follow a path, and not the hook of an editable install;
	# and this path has the packages alone, not the tests beside them.
	mkdir -p .venv/packages
	ln -sfn ../../protocol ../../relay ../../peers .venv/packages
	echo '$(CURDIR)/.venv/packages' > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/roam_relay.pth"
	touch $@

demo: .venv/.installed
	$(BIN)/python examples/demo.py $(ARGS)

# The package for browsers and Node: built, its types checked, its size, and its tests.
js: js/node_modules/.installed .venv/.installed
	cd js && npm test --silent

# Built alone: what pytest and the example need.
js/dist/roam-relay.min.js: js/node_modules/.installed $(shell find js/src js/scripts -type f 2>/dev/null)
	cd js && npm run --silent build

js/node_modules/.installed: js/package.json js/package-lock.json
	node -e 'if (parseInt(process.versions.node) < 20) throw "Node 20 or newer is needed"'
	cd js && npm ci --silent
	touch $@

# A chat for pages, with a relay of its own: prints its address, and what to do. ARGS='--port 9000'
demo-web: js/dist/roam-relay.min.js .venv/.installed
	$(BIN)/python -m examples.web $(ARGS)

# The same in Debian's Chromium; writes docs/pictures/web.png.
web-picture: js/dist/roam-relay.min.js .venv/.installed
	$(BIN)/python -m tests.js.picture

checks: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: checks js
	rm -f .coverage .coverage.*
	$(BIN)/coverage run $(GATE)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# All that `make test` has no time for: the lab and chaos at their full length, new examples for
# hypothesis and twenty times as many, the tests marked `nightly`, and the benchmarks. CONTRIBUTING.md.
nightly: checks js/node_modules/.installed
	cd js && NIGHTLY=1 npm test --silent
	NIGHTLY=1 $(BIN)/python $(GATE)
	$(BIN)/python -m benchmarks

# The tests of the gate, so many times, with two busy loops beside them, and which were not green.
steady: .venv/.installed
	$(BIN)/python -m tests.steady --runs $(or $(RUNS),10) -- $(ARGS)

# The wheel, in a fresh environment and an empty folder, used as a user would.
installed: .venv/.installed
	$(BIN)/python -m tests.installed

# The draft's figures between network namespaces, shown; needs root, or user namespaces.
# docs/lab.md; ARGS='--no-pause --only figure-4'.
lab: .venv/.installed
	$(BIN)/python -m tests.lab $(ARGS)

# The same network, kept up for your own hands.
lab-shell: .venv/.installed
	$(BIN)/python -m tests.lab --shell

# All scenes as tests, with the times that the goals name, and a table of what was measured.
lab-tests: .venv/.installed
	NIGHTLY=1 $(BIN)/python -m pytest tests/lab

# Measure a move beside TCP and WebSocket; writes docs/pictures/move.svg and the table in docs/lab.md.
lab-picture: .venv/.installed
	$(BIN)/python -m tests.lab.picture

# The dashboard in Debian's Chromium; writes docs/pictures/dashboard-*.png.
dashboard-pictures: .venv/.installed
	$(BIN)/python -m tests.relay.dashboard.pictures

# The messenger of examples/chat; writes docs/pictures/chat.svg.
chat-picture: .venv/.installed
	$(BIN)/python -m tests.chat.picture

# Which pairs of sites behind NATs and firewalls talk directly, as tables; docs/nat.md. ARGS=--write,
# and ARGS='--ice --write' for that beside ICE.
lab-nats: $(if $(findstring --ice,$(ARGS)),.venv/.rivals,.venv/.installed)
	$(BIN)/python -m tests.lab.nat_table $(ARGS)

# How long every kind of move takes, as a table; docs/lab.md. All of it takes hours:
# ARGS='--row hard --rtt 50 --moves 5 --json moves.json --write'
lab-moves: .venv/.installed
	$(BIN)/python -m tests.lab.moves $(ARGS)

# The pages of docs/ as a site, in .site/; a link that leads nowhere is an error.
site: .venv/.site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.venv/.site: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[site]'
	touch $@

# The same, and in the same run what others use.
lab-rivals: .venv/.rivals
	$(BIN)/python -m tests.lab.moves --rivals $(ARGS)

.venv/.rivals: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[rivals]'
	touch $@

# A longer chaos run: SECONDS=600 SEED=… replays one; ARGS=--conversations has two programs with numbered
# messages and a relay that are killed, kept away, moved and given a full disk instead.
chaos: .venv/.installed
	$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED)) $(ARGS)

# Let a fuzzer that is guided by coverage look for findings; tests/fuzz. ARGS='codec urls --seconds 600'
fuzz: .venv/.fuzz
	$(BIN)/python -m tests.fuzz $(ARGS)

.venv/.fuzz: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	touch $@

# Peers that come and go in every way, and what is left of them. ARGS='--peers 500 --seconds 180'
soak: .venv/.installed
	$(BIN)/python -m tests.soak $(ARGS)

# The rooms of each package, drawn from the imports; docs/architecture.md. ARGS=--write
floors: .venv/.installed
	$(BIN)/python -m tests.floors $(ARGS)

# Which vectors, checks of the kit and tests hold each rule of docs/protocol.md; docs/rules.md. ARGS=--write
rules: .venv/.installed
	$(BIN)/python -m tests.rules $(ARGS)

# The vectors of docs/protocol-vectors.json, and the kit's copy of them, made anew.
vectors: .venv/.installed
	$(BIN)/python -m tests.protocol.make_vectors

# docs/reference.md, made from the comments in the code: keys, metrics, log events, codes.
reference: .venv/.installed
	$(BIN)/python -m tests.reference

format: .venv/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf js/node_modules js/dist js/build
	rm -rf .venv .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
