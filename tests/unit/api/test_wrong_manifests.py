# ruff: noqa: E501 - messages are kept whole, as they are printed
"""What a person reads who wrote something wrong: one line per problem, with its place and what to do."""

from __future__ import annotations

import pytest

from frostline_operator.api.loader import parse_study
from frostline_operator.api.problems import StudyError

from .manifests import GOOD, changed

# title, the piece of the right manifest to replace, what by, and what is said about it (after the file's name)
WRONG: list[tuple[str, str, str, list[str]]] = [
    (
        "unknown key",
        "  objective: {metric: loss}",
        "  objective: {metrc: loss}",
        [":6: spec.objective.metrc: there is no such key; did you mean metric?"],
    ),
    ("unknown section", "  search:", "  serach:", [":14: spec.serach: there is no such key; did you mean search?"]),
    (
        "unknown key without a near one",
        "  search: {trials: 16}",
        "  search: {trials: 16, foo: 1}",
        [
            ":14: spec.search.foo: there is no such key; remove it; known here: algorithm, sampler, gridPoints, initial, eta, seed, trials, parallelism and maxTrialsPerRun"
        ],
    ),
    (
        "unknown metadata",
        "  name: demo",
        "  name: demo\n  lables: {a: b}",
        [":5: metadata.lables: there is no such key; did you mean labels?"],
    ),
    (
        "name",
        "  name: demo",
        "  name: Demo_1",
        [":4: metadata.name: must be lower-case letters, digits and '-' only, such as my-study, got 'Demo_1'"],
    ),
    ("no name", "  name: demo", "  namespace: x", [":3: metadata.name: is missing; add name: my-study"]),
    ("wrong kind", "kind: HPOStudy", "kind: Study", [":2: kind: must be HPOStudy, got 'Study'"]),
    (
        "wrong version",
        "v1alpha1",
        "v1",
        [":1: apiVersion: must be hpo.frostline.dev/v1alpha1, got 'hpo.frostline.dev/v1'"],
    ),
    (
        "whole number as text",
        "trials: 16",
        "trials: '16'",
        [":14: spec.search.trials: must be a whole number, got '16'; remove the quotes"],
    ),
    (
        "whole number as word",
        "trials: 16",
        "trials: many",
        [":14: spec.search.trials: must be a whole number, got 'many'"],
    ),
    (
        "whole number as float",
        "max: 100000",
        "max: 1e5",
        [":16: spec.fidelity.tokens.max: must be a whole number, got 100000.0; write 100000"],
    ),
    ("whole number bound", "trials: 16", "trials: 0", [":14: spec.search.trials: must be at least 1, got 0"]),
    (
        "number or All",
        "tokens: {max: 100000}",
        "tokens: {max: 100000}\n    layers: {min: all}",
        [":17: spec.fidelity.layers.min: must be a whole number or one of All or Half, got 'all'; did you mean All?"],
    ),
    (
        "number or All, bound",
        "tokens: {max: 100000}",
        "tokens: {max: 100000}\n    layers: {min: 0}",
        [":17: spec.fidelity.layers.min: must be at least 1 or one of All or Half, got 0"],
    ),
    (
        "boolean as text",
        "  search: {trials: 16}",
        "  search: {trials: 16}\n  suspend: 'true'",
        [":15: spec.suspend: must be true or false, got 'true'; write true without quotes"],
    ),
    (
        "old boolean",
        "  search: {trials: 16}",
        "  search: {trials: 16}\n  suspend: yes",
        [":15: spec.suspend: yes is text here but true to kubectl; write true, or 'yes'"],
    ),
    ("octal", "trials: 16", "trials: 016", [":14: spec.search.trials: 016 is read as octal by some tools; write 16"]),
    (
        "text as number",
        "model_type: gpt2",
        "model_type: gpt2}\n    pretrained: 5\n    activation: relu #",
        [":20: spec.model.pretrained: must be text, got 5; put it in quotes"],
    ),
    (
        "choice misspelt",
        "scale: Log",
        "scale: Logarithmic",
        [":12: spec.parameters[lr].scale: must be one of Linear or Log, got 'Logarithmic'; did you mean Log?"],
    ),
    (
        "choice",
        "  search: {trials: 16}",
        "  search: {trials: 16}\n  promotion: Resume",
        [":15: spec.promotion: must be one of RestartOnThaw, Continue or Restart, got 'Resume'"],
    ),
    (
        "section is a scalar",
        "tokens: {max: 100000}",
        "tokens: 100000",
        [":16: spec.fidelity.tokens: must be a section of `key: value` lines, got 100000"],
    ),
    (
        "section is empty",
        "  search: {trials: 16}",
        "  search:",
        [":14: spec.search: is empty; give it a value, or remove the key"],
    ),
    (
        "list is a section",
        "values: [AdamW, SGD]",
        "values: {a: b}",
        [":13: spec.parameters[opt].values: must be a list, such as [a, b], got a section"],
    ),
    (
        "empty list",
        "values: [AdamW, SGD]",
        "values: []",
        [":13: spec.parameters[opt].values: must have at least 1 entry, has 0"],
    ),
    (
        "duration",
        "  search: {trials: 16}",
        "  search: {trials: 16}\n  budget: {wallClock: 5 minutes}",
        [":15: spec.budget.wallClock: must be a length of time, such as 90s, 15m or 1h30m, got '5 minutes'"],
    ),
    (
        "no time",
        "  search: {trials: 16}",
        "  search: {trials: 16}\n  budget: {wallClock: 0s}",
        [":15: spec.budget.wallClock: '0s' is no time at all; give at least 1s"],
    ),
    (
        "memory",
        "  search: {trials: 16}",
        "  search: {trials: 16}\n  placement: {usableMemory: 8GB}",
        [":15: spec.placement.usableMemory: must be an amount of memory, such as 24Gi or 512Mi, got '8GB'"],
    ),
    (
        "missing section",
        "  data: {kind: Text, builtin: python-docs}\n",
        "",
        [":5: spec.data: is missing; add data: {kind: Text, path: /data/corpus.txt} (or Images, Table, None)"],
    ),
    (
        "missing field",
        "tokens: {max: 100000}",
        "tokens: {min: 1000}",
        [":16: spec.fidelity.tokens.max: is missing; add max: 1000000"],
    ),
    (
        "range upside down",
        "max: 1e-1",
        "max: 1e-5",
        [":11: spec.parameters[lr].max: must be above min (0.0001), got 1e-05; for one value use type: Constant"],
    ),
    ("no range", "      max: 1e-1\n", "", [":8: spec.parameters[lr]: type Float needs max; add it"]),
    (
        "log of zero",
        "min: 1e-4",
        "min: 0",
        [":10: spec.parameters[lr].min: must be above 0 for scale Log, got 0; raise it or set scale: Linear"],
    ),
    (
        "log with step",
        "scale: Log",
        "scale: Log\n      step: 0.1",
        [":13: spec.parameters[lr].step: step goes with scale Linear only; remove one of the two"],
    ),
    (
        "step too large",
        "scale: Log",
        "step: 1",
        [":12: spec.parameters[lr].step: must be at most max - min, which is 0.0999, got 1; lower it"],
    ),
    (
        "step too small",
        "scale: Log",
        "step: 1e-10",
        [
            ":12: spec.parameters[lr].step: makes more than 100,000 values, which is as good as a range without steps; remove it, or raise it to 1.1e-06"
        ],
    ),
    ("not finite", "max: 1e-1", "max: .inf", [":11: spec.parameters[lr].max: must be finite; give a number"]),
    (
        "fraction for Int",
        "      type: Float\n",
        "      bind: training.batchSize\n      type: Int\n",
        [
            ":11: spec.parameters[lr].min: must be a whole number for type Int, got 0.0001; round it or set type: Float",
            ":12: spec.parameters[lr].max: must be a whole number for type Int, got 0.1; round it or set type: Float",
        ],
    ),
    (
        "values for Float",
        "scale: Log",
        "values: [1]",
        [
            ":12: spec.parameters[lr].values: values is for type Categorical, not for Float; remove it or set type: Categorical"
        ],
    ),
    (
        "same choice twice",
        "[AdamW, SGD]",
        "[AdamW, SGD, SGD]",
        [":13: spec.parameters[opt].values[2]: is the same choice as one before it; remove one"],
    ),
    (
        "choices without values",
        "values: [AdamW, SGD], ",
        "",
        [":13: spec.parameters[opt]: type Categorical needs values; add it"],
    ),
    (
        "two of a name",
        "- {name: opt,",
        "- {name: lr,",
        [":13: spec.parameters[lr].name: there are two parameters named lr; rename one"],
    ),
    (
        "condition on nobody",
        "training.optimizer.name}",
        "training.optimizer.name, when: {parameter: rl, values: [1]}}",
        [
            ":13: spec.parameters[opt].when.parameter: no parameter rl is declared before this one; declare it earlier in the list"
        ],
    ),
    (
        "condition never holds",
        "  search: {trials: 16}",
        "    - {name: momentum, type: Float, min: 0, max: 0.9, when: {parameter: opt, values: [Adam]}}\n  search: {trials: 16}",
        [":14: spec.parameters[momentum].when.values[0]: opt never is 'Adam'; give 'AdamW' or 'SGD'"],
    ),
    (
        "unknown field",
        "bind: training.optimizer.name",
        "bind: training.optimzer.name",
        [
            ":13: spec.parameters[opt].bind: there is no field training.optimzer.name; did you mean training.optimizer.name?"
        ],
    ),
    (
        "unknown field, snake case",
        "bind: training.optimizer.name",
        "bind: training.optimizer.weight_decay",
        [
            ":13: spec.parameters[opt].bind: there is no field training.optimizer.weight_decay; did you mean training.optimizer.weightDecay?"
        ],
    ),
    (
        "unknown field, wrong place",
        "bind: training.optimizer.name",
        "bind: training.momentum",
        [
            ":13: spec.parameters[opt].bind: there is no field training.momentum; did you mean training.optimizer.momentum?"
        ],
    ),
    (
        "unknown field, nothing near",
        "bind: training.optimizer.name",
        "bind: training.zzz",
        [
            ":13: spec.parameters[opt].bind: there is no field training.zzz; training has batchSize, accumulation, sequenceLength, optimizer, schedule, precision, prefixPrecision, gradientClipping, labelSmoothing, dropout, activationCheckpointing, depthTransfer and depthFactors"
        ],
    ),
    (
        "bind is no path",
        "bind: training.optimizer.name",
        "bind: optimizer.name",
        [
            ":13: spec.parameters[opt].bind: must be the path of a field below model, training or data, such as training.optimizer.lr, got 'optimizer.name'"
        ],
    ),
    (
        "a section is bound",
        "bind: training.optimizer.name",
        "bind: training.optimizer",
        [
            ":13: spec.parameters[opt].bind: training.optimizer is a section; bind one of its fields: name, lr, weightDecay, beta1, beta2, eps, momentum, nesterov or fused"
        ],
    ),
    (
        "config itself is bound",
        "bind: training.optimizer.name",
        "bind: model.config",
        [
            ":13: spec.parameters[opt].bind: model.config is a section; bind one of its keys, such as model.config.n_embd"
        ],
    ),
    (
        "below a value",
        "bind: training.optimizer.name",
        "bind: training.batchSize.x",
        [":13: spec.parameters[opt].bind: training.batchSize is a single value; remove .x"],
    ),
    (
        "a list is bound",
        "bind: training.optimizer.name",
        "bind: model.hidden",
        [":13: spec.parameters[opt].bind: model.hidden takes a list; bind one of its entries, such as model.hidden.0"],
    ),
    (
        "no such width",
        "values: [AdamW, SGD], bind: training.optimizer.name",
        "values: [8, 9], bind: model.hidden.3",
        [
            ":13: spec.parameters[opt].bind: model.hidden.3 leads nowhere in this study; check model.config and model.hidden"
        ],
    ),
    (
        "validation is bound",
        "values: [AdamW, SGD], bind: training.optimizer.name",
        "values: [a, b], bind: data.path",
        [
            ":13: spec.parameters[opt].bind: data.path would change what is validated, so that trials could not be compared; of data, only data.augment can be bound"
        ],
    ),
    (
        "bound to nothing, near",
        "name: lr",
        "name: learning_rate",
        [
            ":8: spec.parameters[learning_rate]: is bound to no field, so it would have no effect; did you mean bind: training.optimizer.lr?"
        ],
    ),
    (
        "bound to nothing",
        "name: lr",
        "name: zzz",
        [
            ":8: spec.parameters[zzz]: is bound to no field, so it would have no effect; add bind: and a field's path, such as model.config.n_embd"
        ],
    ),
    (
        "range outside the field's",
        "max: 1e-1",
        "max: 1e4",
        [":11: spec.parameters[lr].max: training.optimizer.lr must be at most 1000, got 10000"],
    ),
    (
        "choice the field refuses",
        "[AdamW, SGD]",
        "[AdamW, sgd]",
        [
            ":13: spec.parameters[opt].values[1]: training.optimizer.name must be one of AdamW, Adam, SGD, Adafactor or AdamW8bit, got 'sgd'; did you mean SGD?"
        ],
    ),
    (
        "choice of a wrong type",
        "[AdamW, SGD]",
        "[AdamW, 5]",
        [
            ":13: spec.parameters[opt].values[1]: training.optimizer.name must be one of AdamW, Adam, SGD, Adafactor or AdamW8bit, got 5"
        ],
    ),
    (
        "fractions for whole numbers",
        "name: lr",
        "name: batchSize",
        [
            ":9: spec.parameters[batchSize].type: training.batchSize takes no fractions, and a Float range has them; set type: Int"
        ],
    ),
    (
        "bound twice",
        "name: opt, type: Categorical, values: [AdamW, SGD], bind: training.optimizer.name",
        "name: lr2, type: Float, min: 1, max: 2, bind: training.optimizer.lr",
        [
            ":13: spec.parameters[lr2].bind: lr is bound to training.optimizer.lr already; bind one of the two elsewhere, or remove it"
        ],
    ),
    (
        "depth",
        "values: [AdamW, SGD], bind: training.optimizer.name",
        "values: [4, 8], bind: model.config.n_layer",
        [
            ":13: spec.parameters[opt].bind: model.config.n_layer changes the number of layers, so the last z of them would differ from trial to trial; set fidelity.layers.min: All, or make it one study per choice"
        ],
    ),
    (
        "architecture",
        "values: [AdamW, SGD], bind: training.optimizer.name",
        "values: [Vision], bind: model.family",
        [
            ":13: spec.parameters[opt].bind: model.family changes the number of layers, so the last z of them would differ from trial to trial; set fidelity.layers.min: All, or make it one study per choice",
            ":13: spec.parameters[opt].values[0]: with this value, model.name: a Vision model needs name, a torchvision builder such as resnet18",
        ],
    ),
    (
        "unread field",
        "    - {name: opt, type: Categorical, values: [AdamW, SGD], bind: training.optimizer.name}\n",
        "    - {name: momentum, type: Float, min: 0, max: 0.9}\n",
        [
            ":13: spec.parameters[momentum].name: momentum is for SGD, and no trial uses it; remove it, or set training.optimizer.name: SGD"
        ],
    ),
    (
        "nothing ends it",
        "trials: 16",
        "eta: 2",
        [":14: spec.search: nothing ends this study; give search.trials, or a limit under budget"],
    ),
    (
        "direction",
        "{metric: loss}",
        "{metric: accuracy}",
        [":6: spec.objective.direction: accuracy is better when higher; set direction: Maximize"],
    ),
    (
        "metric of numbers",
        "{metric: loss}",
        "{metric: rmse}",
        [":6: spec.objective.metric: family CausalLM does not report rmse; use loss, perplexity, error or accuracy"],
    ),
    (
        "metric",
        "{metric: loss}",
        "{metric: los}",
        [":6: spec.objective.metric: family CausalLM does not report los; did you mean loss?"],
    ),
    (
        "goal",
        "{metric: loss}",
        "{metric: loss, goal: .nan}",
        [":6: spec.objective.goal: must be a finite number, got nan"],
    ),
    (
        "kind of data",
        "{kind: Text, builtin: python-docs}",
        "{kind: Images, builtin: digits}",
        [":20: spec.data.kind: family CausalLM trains on Text, not Images; set kind: Text, or model.family: Vision"],
    ),
    (
        "builtin of another kind",
        "builtin: python-docs",
        "builtin: digits",
        [":20: spec.data.builtin: digits is of kind Images; set kind: Images, or builtin: python-docs"],
    ),
    (
        "no source",
        ", builtin: python-docs",
        "",
        [":20: spec.data: gives no source; add path, or builtin: python-docs to try things out"],
    ),
    (
        "two sources",
        "builtin: python-docs",
        "builtin: python-docs, path: /data",
        [":20: spec.data.path: builtin and path are two sources; remove one of the two"],
    ),
    (
        "field of another kind of data",
        "builtin: python-docs",
        "builtin: python-docs, imageSize: 32",
        [":20: spec.data.imageSize: imageSize is for kind Images, not for Text; remove it or set kind: Images"],
    ),
    (
        "unit",
        "tokens: {max",
        "samples: {max",
        [":16: spec.fidelity.samples: a language model is fed by tokens; rename samples to tokens"],
    ),
    (
        "two units",
        "tokens: {max: 100000}",
        "tokens: {max: 100000}\n    samples: {max: 100000}",
        [
            ":17: spec.fidelity.samples: tokens and samples are two units of one thing; keep the one your model is fed by"
        ],
    ),
    (
        "no unit",
        "tokens: {max: 100000}",
        "layers: {min: 1}",
        [
            ":15: spec.fidelity: needs tokens (language models) or samples (images, tables), such as samples: {max: 100000}"
        ],
    ),
    (
        "amount upside down",
        "{max: 100000}",
        "{max: 100000, min: 200000}",
        [":16: spec.fidelity.tokens.min: must be at most max (100000), got 200000; lower it"],
    ),
    (
        "layers upside down",
        "tokens: {max: 100000}",
        "tokens: {max: 100000}\n    layers: {min: 4, max: 2}",
        [":17: spec.fidelity.layers.min: must be at most max (2), got 4; lower it"],
    ),
    (
        "no room for rungs",
        "{max: 100000}",
        "{max: 100000, min: 80000}",
        [
            ":16: spec.fidelity.tokens.min: with eta 2 there is one rung only between 80000 and 100000 tokens; lower min to 50000 or less, or remove it"
        ],
    ),
    (
        "less than a step",
        "{max: 100000}",
        "{max: 100000, min: 100}",
        [
            ":16: spec.fidelity.tokens.min: 100 is less than one training step, which takes 128 (batchSize x accumulation x sequenceLength); raise it"
        ],
    ),
    (
        "continue without tokens",
        "{max: 100000}",
        "{max: 100000, min: All}\n  promotion: Continue",
        [
            ":16: spec.fidelity.tokens.min: a promoted trial that continues would get no further tokens at min: All; set promotion: RestartOnThaw, or let tokens grow"
        ],
    ),
    (
        "rungs descend",
        "tokens: {max: 100000}",
        "rungs: [{layers: 2, tokens: 1000}, {layers: 1, tokens: 2000}]",
        [":16: spec.fidelity.rungs[1].layers: must be at least 2, as in the rung before, got 1"],
    ),
    (
        "rungs stay",
        "tokens: {max: 100000}",
        "rungs: [{layers: 2, tokens: 1000}, {layers: 3, tokens: 1000}]\n  promotion: Continue",
        [
            ":16: spec.fidelity.rungs[1].tokens: a promoted trial that continues would get no further tokens than in rung 0; set promotion: RestartOnThaw, or let tokens grow"
        ],
    ),
    (
        "rungs and ranges",
        "tokens: {max: 100000}",
        "rungs: [{layers: 2, tokens: 1000}]\n    tokens: {max: 100000}",
        [":17: spec.fidelity.tokens: rungs is the whole schedule; remove this, or remove rungs"],
    ),
    (
        "field of another family",
        "family: CausalLM",
        "family: CausalLM\n    hidden: [64]",
        [":19: spec.model.hidden: hidden is for family MLP, not for CausalLM; remove it or set family: MLP"],
    ),
    (
        "no architecture",
        "model_type: gpt2, ",
        "",
        [
            ":19: spec.model.config: a CausalLM needs config.model_type (such as gpt2, with n_layer, n_embd, n_head) or pretrained"
        ],
    ),
    (
        "initial: unknown",
        "{trials: 16}",
        "{trials: 16, initial: [{lrr: 1e-3}]}",
        [":14: spec.search.initial[0].lrr: there is no parameter lrr; did you mean lr?"],
    ),
    (
        "initial: out of range",
        "{trials: 16}",
        "{trials: 16, initial: [{lr: 1.0}]}",
        [":14: spec.search.initial[0].lr: lr never is 1; give a number from 0.0001 to 0.1"],
    ),
    (
        "initial: no choice",
        "{trials: 16}",
        "{trials: 16, initial: [{opt: Adam}]}",
        [":14: spec.search.initial[0].opt: opt never is 'Adam'; give 'AdamW' or 'SGD'"],
    ),
    (
        "grid too small",
        "{trials: 16}",
        "{trials: 16, sampler: Grid}",
        [":14: spec.search.trials: the grid has 10 configurations only; set trials: 10 or less"],
    ),
    (
        "two rules for the rate at fewer layers",
        "    batchSize: 4",
        "    batchSize: 4\n    depthTransfer: Auto\n    depthFactors: [8, 2]",
        [":24: spec.training.depthFactors: depthFactors stand instead of depthTransfer: Auto; keep one of the two"],
    ),
    (
        "a sampler that learns, and nothing to learn from",
        "{trials: 16}",
        "{trials: 8, sampler: Model, algorithm: Hyperband}",
        [
            ":14: spec.search.sampler: Model proposes from results, and Hyperband draws before there are any; set algorithm: ASHA"
        ],
    ),
    (
        "two prices",
        "{trials: 16}",
        "{trials: 16}\n  budget: {prices: [{memoryClass: 8Gi, perHour: 1}, {memoryClass: 8Gi, perHour: 2}]}",
        [":15: spec.budget.prices[1].memoryClass: 8Gi has a price already; keep one"],
    ),
    (
        "key twice",
        "trials: 16",
        "trials: 16, trials: 17",
        [":14: spec.search.trials: is there twice, first in line 14; keep one"],
    ),
    ("tab", "    batchSize: 4", "\tbatchSize: 4", [":22: not valid YAML at column 1: a tab cannot indent; use spaces"]),
    (
        "bracket",
        "[AdamW, SGD]",
        "[AdamW, SGD",
        [":13: not valid YAML at column 88: a list in brackets is not closed, or lacks a comma"],
    ),
    (
        "quotation mark",
        "family: CausalLM",
        "family: 'CausalLM",
        [":18: not valid YAML at column 13: a quotation mark is never closed; close it"],
    ),
    (
        "alias",
        "family: CausalLM",
        "family: *x",
        [
            ":18: not valid YAML at column 13: an alias (*name) without its anchor; write &name where the value first occurs"
        ],
    ),
    (
        "tag",
        "family: CausalLM",
        "family: !!python/name:x CausalLM",
        [":18: spec.model.family: the tag !!python/name:x is not supported; remove it"],
    ),
    (
        "no parameters",
        "    - name: lr\n      type: Float\n      min: 1e-4\n      max: 1e-1\n      scale: Log\n    - {name: opt, type: Categorical, values: [AdamW, SGD], bind: training.optimizer.name}\n",
        "    []\n",
        [":7: spec.parameters: must have at least 1 entry, has 0"],
    ),
    (
        "empty parameters section",
        "  parameters:\n    - name: lr\n",
        "  parameters:\n    - name: \n",
        [":8: spec.parameters[0].name: is empty; give it a value, or remove the key"],
    ),
    (
        "a value in the way",
        "values: [AdamW, SGD], bind: training.optimizer.name",
        "values: [1], bind: model.config.n_layer.x",
        [
            ":13: spec.parameters[opt].bind: model.config.n_layer.x leads nowhere in this study; check model.config and model.hidden"
        ],
    ),
    (
        "config depth with fractions",
        "n_layer: 8",
        "n_layer: 8}\n    dept: {a: 1",
        [
            ":20: spec.model.dept: there is no such key; remove it; known here: family, name, config, pretrained, hidden, activation and entrypoint"
        ],
    ),
    (
        "too many digits",
        "trials: 16",
        "trials: " + "9" * 5000,
        [":14: spec.search.trials: a number with so many digits cannot be meant; shorten it"],
    ),
    (
        "query for trainers that are read directly",
        "  search: {trials: 16}",
        "  search: {trials: 16}\n  metrics: {source: Scrape, query: {objective: x}, patience: 5s, whenMissing: Wait}",
        [
            ":15: spec.metrics.patience: patience is for source Prometheus; remove it, or set source: Prometheus",
            ":15: spec.metrics.query: query is for source Prometheus; remove it, or set source: Prometheus",
            ":15: spec.metrics.whenMissing: whenMissing is for source Prometheus; remove it, or set source: Prometheus",
        ],
    ),
    (
        "patience without end",
        "  search: {trials: 16}",
        "  search: {trials: 16}\n  metrics: {patience: 5s, whenMissing: Wait}",
        [":15: spec.metrics.patience: whenMissing: Wait waits for as long as it takes; remove patience, or set Record"],
    ),
    (
        "label of a query",
        "  search: {trials: 16}",
        "  search: {trials: 16}\n  metrics: {query: {objective: ' ', labels: {trial: my-trial}}}",
        [
            ":15: spec.metrics.query.labels.trial: must be the name of a Prometheus label: letters, digits and '_', no digit first, got 'my-trial'",
            ":15: spec.metrics.query.objective: must be more than blanks, got ' '",
        ],
    ),
    (
        "one label for two things",
        "  search: {trials: 16}",
        "  search: {trials: 16}\n  metrics: {query: {objective: x, labels: {rung: trial, run: trial}}}",
        [
            ":15: spec.metrics.query.labels.run: is the label trial, which is trial's already; name another label",
            ":15: spec.metrics.query.labels.rung: is the label trial, which is trial's already; name another label",
        ],
    ),
    ("key is no text", "n_layer: 8", "8: 8", [":19: spec.model.config: the key 8 is not text; put it in quotes"]),
]


@pytest.mark.parametrize(("old", "new", "said"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_what_a_wrong_manifest_prints(old: str, new: str, said: list[str]) -> None:
    with pytest.raises(StudyError) as caught:
        parse_study(changed(old, new), "study.yaml")
    assert str(caught.value).splitlines() == ["study.yaml" + line for line in said]


def test_the_manifest_that_is_spoiled_is_right_itself() -> None:
    assert parse_study(GOOD).metadata.name == "demo"
