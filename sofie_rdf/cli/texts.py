"""The help that teaches `sofie-rdf`: what each command does, and examples."""

from __future__ import annotations

ABOUT = """\
Trained networks as columns of ROOT's RDataFrame.

A model is a file of ONNX or of Keras (.keras, .h5), or one that was stored in a .root file."""

EXAMPLES = """\
examples:
  sofie-rdf inspect higgs.onnx                what the model takes, gives and costs
  sofie-rdf check models/*.onnx               which of them can run, and why the others cannot
  sofie-rdf convert higgs.onnx analysis.root  put the model beside the events
  sofie-rdf emit higgs.onnx -o out            C++ for ROOT macros and for g++
  sofie-rdf apply higgs.onnx events.root:Events -o scored.root   the scores of all events
  sofie-rdf precision higgs.onnx --data events.root:Events   what weights in fewer bits change
  sofie-rdf verify higgs.onnx events.root:Events   compare with the library it is from
  sofie-rdf profile higgs.onnx                the time of each node as it runs
  sofie-rdf trust analysis.root               let macros run the models of somebody else
  sofie-rdf ops                               which operators there are
  sofie-rdf cache                             where compiled models are kept, and how much there is

In Python:
  import sofie_rdf
  df = sofie_rdf.define(df, "score", sofie_rdf.load("higgs.onnx"), ["m_jj", "m_jjj", ...])

exit codes:
  0 done   1 the model has problems, or it cannot be done   2 wrong usage   130 interrupted

Results are written to the standard output, messages to the error stream."""

INSPECT = """\
Show what a model takes, gives and costs: inputs and outputs, and the nodes that run after all
optimizations, with their types, parameters and multiply-adds. Of a .root file with several
models, a list."""

INSPECT_EXAMPLES = """\
examples:
  sofie-rdf inspect higgs.onnx
  sofie-rdf inspect analysis.root --name higgs
  sofie-rdf inspect traced.pt --input-shape N,7
  sofie-rdf inspect higgs.onnx --ir           the network that is compiled, as text
  sofie-rdf inspect higgs.onnx --why          what was fused, what was not, and why
  sofie-rdf inspect higgs.onnx --json | jq '.models[0].inputs'
  sofie-rdf inspect higgs.onnx --plot graph.svg
  sofie-rdf inspect higgs.onnx --html higgs.html   both graphs and all tables in one page
  sofie-rdf inspect higgs.onnx --kernels --batch 64   the kernel of each node
  sofie-rdf inspect higgs.onnx --kernels --simd avx2,generic   what runs on other CPUs
  sofie-rdf inspect higgs.onnx --target alpaka --batch 4096   kernels, and their costs on paper

The passes at work:
  diff <(sofie-rdf inspect higgs.onnx --graph) <(sofie-rdf inspect higgs.onnx --ir)

keys of --json (a size is a number, or text where it depends on named sizes):
  file
  models: name, provenance, precision, weight_bytes, scratch_bytes
    inputs, outputs: name, dtype, shape
    as_read, to_run: node_count, parameters, multiply_adds
    to_run.nodes: name, operator, inputs, outputs, parameters, multiply_adds
    weights: name, operator, shape, precision, nbytes, reason
    random: operators, seed
    stored (of a .root file): what it says of itself, sha256, trusted

keys of --json with --kernels (scratch is bytes, null where the data decide it):
  file
  models: name, simd ("" for what the header says, else one for each set), sizes
    nodes: node, operator, kernel, header, functions, packed, scratch, body (of an If or a Loop),
      why, refused (kernel, reason), elsewhere (sets, kernel, header, why)

keys of --json with --target (times are seconds, on paper):
  file
  models: name, sizes, kernels, flops, bytes, needed_bytes, least (of each GPU)
    nodes: node, kernels, groups, flops, nbytes
    compiled (with --registers): kernel, registers, local_bytes, spilled_bytes"""

CHECK = """\
Say whether models can run, and if not, every reason at once: each operator that is not known,
each shape that does not fit, also in the bodies of If, Loop and Scan and in functions. Exit code 0
if all are fine, 1 if any is not."""

CHECK_EXAMPLES = """\
examples:
  sofie-rdf check higgs.onnx
  sofie-rdf check models/*.onnx || echo 'not all of them'
  sofie-rdf check higgs.onnx --json | jq '.files[].problems[].thing'

keys of --json:
  files: file, ok
    problems: kind (of the error), thing, place, remedy
    notes: what is no problem of the file, but of columns"""

CONVERT = """\
Store a model in a .root file. A file that exists keeps all that is in it: several models may
live in one file, by name, beside trees and histograms. Writing is all or nothing."""

CONVERT_EXAMPLES = """\
examples:
  sofie-rdf convert higgs.onnx higgs.root
  sofie-rdf convert v2.onnx analysis.root --name higgs_v2
  sofie-rdf convert higgs.onnx fixed.root --shape features=16,7
  sofie-rdf convert tagger.onnx tagger.root --normalization preprocess.json
  sofie-rdf convert higgs.onnx small.root --precision bfloat16
  sofie-rdf convert all.root one.root --name higgs"""

EMIT = """\
Write a model as C++17: NAME.hxx, and NAME.dat with the weights. The paths of both are printed.
The header needs no ROOT and no BLAS."""

EMIT_EXAMPLES = """\
examples:
  sofie-rdf emit higgs.onnx -o out
  g++ -std=c++17 -O2 -march=native -Iout -I"$(sofie-rdf --include-dir)" analysis.cpp
  ROOT_INCLUDE_PATH="out:$(sofie-rdf --include-dir)" root -l analysis.C

  sofie-rdf emit higgs.onnx -o out --standalone
  g++ -std=c++17 -O2 -march=native -Iout analysis.cpp

In analysis.cpp:
  #include "higgs.hxx"
  TMVA_SOFIE_higgs::Session session("out/higgs.dat");
  std::vector<float> score = session.infer(features);"""

APPLY = """\
Score all events of a tree and write them to a new .root file: all columns (or those of --keep) and
the scores, or with --friend a tree of the scores alone. The file takes its name when it is whole,
so that a run that fails or is killed changes nothing; the events' own files are never written over.

Several threads write entries in the order in which they are done with them, so that the order of
the new file is another one; --threads 1 keeps it. A friend tree must have it, and is written by
one thread."""

APPLY_EXAMPLES = """\
examples:
  sofie-rdf apply higgs.onnx events.root:Events -o scored.root --columns m_jj m_jjj m_lv
  sofie-rdf apply higgs.onnx 'run2/*.root:Events' -o scored.root --columns m_jj,m_jjj --keep event
  sofie-rdf apply jets.onnx events.root -o jets.root --columns Jet_pt Jet_eta --per object
  sofie-rdf apply higgs.onnx events.root:Events -o friend.root --friend --out-names dnn=score
  sofie-rdf apply tagger.onnx events.root:Events -o out.root --out-names best=argmax(scores)

In Python, with the friend tree:
  tree = ROOT.TChain("Events"); tree.Add("events.root"); tree.AddFriend("Events", "friend.root")"""

PRECISION = """\
Measure on events of yours what weights in fewer bits change: how far the outputs are apart, how
many events are decided otherwise by cuts, the area under the ROC curve where labels are given; and
what is saved: bytes, and the time of an event. `--precision` of the other commands makes such a
model."""

PRECISION_EXAMPLES = """\
examples:
  sofie-rdf precision higgs.onnx --data events.root:Events --columns m_jj,m_jjj,m_lv
  sofie-rdf precision higgs.root --data events.root:Events --labels is_signal --cut 0.9
  sofie-rdf precision higgs.onnx --data features.npy --precisions int8"""

VERIFY = """\
Compare a model with the library it is from, on events of yours: onnxruntime, PyTorch, Keras,
XGBoost or LightGBM reads the file and evaluates it in a process of its own, which can neither
write files nor use the network where the system is Linux. The largest differences are listed with
the entries at which they are, and their place in the entry. Exit code 1 if any number is further
apart than --atol + --rtol * |theirs|; NaN and infinity must be the same, and integers too."""

VERIFY_EXAMPLES = """\
examples:
  sofie-rdf verify higgs.onnx                 on 1000 random events
  sofie-rdf verify higgs.onnx events.root:Events --columns m_jj,m_jjj,m_lv
  sofie-rdf verify higgs.onnx inputs.npz --rtol 1e-6
  sofie-rdf verify higgs.root inputs.npz --against onnxruntime --original higgs.onnx
  sofie-rdf verify higgs.keras --random 200 --against reference

keys of --json (numbers that are not finite are texts: nan, inf, -inf):
  file, model, against, entries, rtol, atol, agree
  outputs: name, numbers, largest, scale, beyond, odd (NaN or infinite in one of the two alone)
  differences, the worst first: output, entry, index, ours, theirs, difference, allowed"""

PROFILE = """\
Measure each node of a network as it runs, on random inputs and one thread: its time, the operations
and bytes that it needs at least, its kernel, and how much of its time the machine needs at least
for that (of the roofline; more than 100 % where bytes are in a nearer cache than that is for). The
code has a clock between its steps for that, and gives the same numbers. Nodes have the names that
they have in the file: where several have become one, all of them. A Loop or an If is one node. The
sum is compared with the time of a whole call of the code without clocks; the difference is printed
as overhead. It is negative in networks so small that their nodes overlap in the CPU."""

PROFILE_EXAMPLES = """\
examples:
  sofie-rdf profile tagger.onnx
  sofie-rdf profile tagger.onnx --batch 64 --by time
  sofie-rdf profile tagger.onnx --size n_pf=50 --shapes
  sofie-rdf profile tagger.onnx --plot times.png
  sofie-rdf profile tagger.onnx --html tagger.html   with the graphs as read and as run
  sofie-rdf profile tagger.onnx --json | jq '.nodes[].seconds'

keys of --json (times are seconds, roofline is null where it is not known):
  file, model, compiler, sizes (by name), whole, sum, before, clock, overhead, calls
  nodes: number, nodes (of the file), operator, kernel, result, seconds, share, flops, weight_bytes,
    value_bytes, roofline"""

TRUST = """\
Let ROOT macros run the models in a .root file. A macro compiles the header that is stored with a
model, and a header from a stranger may do anything. So each is compared with the code that
sofie_rdf itself writes for the stored network; if it is the same, the model's checksum goes into a
list of yours, ~/.config/sofie_rdf/trusted. What you save yourself is there already.

A batch job without that list needs the checksum in SOFIE_RDF_TRUSTED. Python needs nothing: it
never uses the header of a file."""

TRUST_EXAMPLES = """\
examples:
  sofie-rdf trust models.root
  export SOFIE_RDF_TRUSTED=$(sofie-rdf trust models.root --name higgs)"""

OPS = """\
List the operators: what each one computes, for which element types and in which versions of its
operator set it is read, how exact it is, and what else there is to say. Types and versions are not
written down anywhere: a small model of each is tried, which takes some seconds."""

OPS_EXAMPLES = """\
examples:
  sofie-rdf ops
  sofie-rdf ops conv                          all that have conv in their names
  sofie-rdf ops ^reduce                       all whose names begin so
  sofie-rdf ops --markdown                    for a wiki
  sofie-rdf ops --all dense
  sofie-rdf ops --json | jq '.operators[].name'

keys of --json:
  operators: domain, name, formula, types (by type parameter), opsets, accuracy: ulp, terms (null
  for what is made of others), notes"""

CACHE = """\
Show the folder where models are kept that have been read and compiled, and its size. It is
$SOFIE_RDF_CACHE, else sofie_rdf in $XDG_CACHE_HOME or ~/.cache; SOFIE_RDF_CACHE=off does without.
What is in it is never needed: it only saves time."""

CACHE_EXAMPLES = """\
examples:
  sofie-rdf cache
  sofie-rdf cache --clear                     remove everything in it"""

COMPLETION = """\
Print what a shell reads to complete commands, options and their choices. It is made of the same
description as --help."""

COMPLETION_EXAMPLES = """\
examples:
  sofie-rdf completion bash > ~/.local/share/bash-completion/completions/sofie-rdf
  sofie-rdf completion zsh > ~/.zfunc/_sofie-rdf      where ~/.zfunc is in fpath
  sofie-rdf completion fish > ~/.config/fish/completions/sofie-rdf.fish"""

BENCH = """\
Measure how fast models run on this machine: beside onnxruntime and, where they are installed,
beside torch, Keras, SOFIE and our own code compiled by g++; how far from the limits of the machine;
and how long the first result takes. All get the same inputs, on one thread, take turns, and must
compute the same numbers."""
