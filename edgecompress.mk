# For your own Makefile:
#
#     include edgecompress.mk
#     firmware.bin: model.passed
#     	./link-model runs/model/model.tflite
#
# `model.passed` stands for "the recipe model.yaml was run and passed its budget and its verification". The flatbuffer of a
# run that failed is kept for you to look at, so it must not be the target itself: the stamp is removed then. `run` is
# cheap when nothing changed, so the rule always calls it; the stamp gets a new time only when the flatbuffer changed.

EDGECOMPRESS ?= edgecompress
RUNS ?= runs

define passed
@rm -f $@.new
@$(EDGECOMPRESS) run $< --output $(RUNS)/$(notdir $*) $(RUN_OPTIONS) || { code=$$?; rm -f $@; exit $$code; }
@cksum < $(RUNS)/$(notdir $*)/model.tflite > $@.new
@cmp -s $@.new $@ && rm -f $@.new || mv -f $@.new $@
endef

# A name with a dot is never the default goal; a stamp is no intermediate file that make may delete.
.PHONY: .edgecompress-always
.edgecompress-always:
.PRECIOUS: %.passed

%.passed: %.yaml .edgecompress-always
	$(passed)
