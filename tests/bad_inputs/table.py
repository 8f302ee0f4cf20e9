"""Every bad input that is tried: the words typed, what stderr must hold, the exit code, and what may remain on disk."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One bad input.

    Attributes:
        typed: the words after `neuronlens`, as a shell reads them. `{here}` is an empty folder, `{data}` a dataset and
            `{model}` a model of the test's own, made by `scenes.py` and spoiled by `scene`.
        says: what stderr must hold.
        code: the exit code.
        seconds: what the real command may take on an idle machine; for people, no test holds it.
        remains: patterns of files that may stay below the folder that the command is typed in.
        scene: what is done to the files before, by name; empty where nothing is.
    """

    typed: str
    says: str
    code: int = 2
    seconds: float = 1.0
    remains: tuple[str, ...] = ()
    scene: str = ""


CONFIG = [
    # groups: unknown options, also of optional groups; several, none, a number
    Row("experiment=main_tabel", "Unknown experiment option 'main_tabel'. Did you mean 'main_table'?"),
    Row("experiment=MAIN_TABLE", "Unknown experiment option 'MAIN_TABLE'"),
    Row("experiment=null", "experiment is null, expected the name of one option"),
    Row("experiment=[main_table,methods]", "experiment is ['main_table', 'methods'], expected the name of one option"),
    Row("+experiment=main_tabel", "Unknown experiment option 'main_tabel'"),
    Row("preset=soudn", "Did you mean 'sound'?"),
    Row("preset=null", "preset is null"),
    Row("model=minilmm", "Unknown model option 'minilmm'. Did you mean 'minilm'?"),
    Row("model=[minilm,gpt2]", "model is ['minilm', 'gpt2'], expected the name of one option"),
    Row("model=[a,b]", "model is ['a', 'b'], expected the name of one option"),
    Row("model=null", "model is null, expected the name of one option"),
    Row("model=", "Unknown model option ''"),
    Row("model=3", "model is 3, expected the name of one option"),
    Row("model=true", "model is true, expected the name of one option"),
    Row("dataset=null", "dataset is null, expected the name of one option"),
    Row("dataset=newsgroup20", "Did you mean 'newsgroups20'?"),
    Row("range=null", "range is null, expected the name of one option"),
    Row("range=gausian", "Did you mean 'gaussian'?"),
    Row("saliency=null", "saliency is null"),
    Row("saliency=maxx", "Did you mean 'max'?"),
    Row("sweep=null", "sweep is null"),
    Row("sweep=trade-off", "Did you mean 'tradeoff'?"),
    Row("trainer=null", "trainer is null"),
    Row("trainer=gpu", "Unknown trainer option 'gpu'"),
    Row("logger=null", "logger is null"),
    Row("logger=wandbb", "Did you mean 'wandb'?"),
    Row("paths=null", "paths is null"),
    Row("layers=null", "layers is null"),
    Row("layers=first", "Unknown layers option 'first'"),
    Row("intervention=null", "intervention is null"),
    Row("evaluation=null", "evaluation is null"),
    Row("evaluation/documents=null", "evaluation/documents is null"),
    Row("evaluation/documents=wikpedia", "Did you mean 'wikipedia'?"),
    Row("evaluation/questions=mmluu", "Did you mean 'mmlu'?"),
    Row("~model", "The group 'model' cannot be taken out"),
    Row("~model=minilm", "The group 'model' cannot be taken out"),
    Row("~range", "The group 'range' cannot be taken out"),
    Row("~sweep", "The group 'sweep' cannot be taken out"),
    Row("~seed", "'seed' cannot be taken out"),
    Row("~model.name", "'model.name' cannot be taken out"),
    Row("edit=zero", "chosen by name"),
    Row("gate=range", "chosen by name"),
    Row("+edit=zer", "Did you mean 'zero'?"),
    Row("++edit=max", "chosen by name"),
    Row("~edit=max", "chosen by name"),
    Row("head=seq_cls", "A head is chosen by name"),
    Row("model.head=seq_clss", "Did you mean 'seq_cls'?"),
    Row("hydra/launcher=joblibb", "Unknown hydra/launcher option 'joblibb'"),
    Row("hydra/sweeper=foo", "Unknown hydra/sweeper option 'foo'"),
    # words that are no override
    Row("runn", "Unknown verb 'runn'. Did you mean 'run'?"),
    Row("model", "Unknown verb 'model'"),
    Row("run run", "'run' is no override, expected key=value"),
    Row("run doctor", "'doctor' is no override"),
    Row("=3", "has no key before the sign ="),
    Row("seed==3", "'seed==3' cannot be read"),
    Row("dataset.wheel=a==1", "cannot be read: text with any of ="),
    Row("run_name=a:b:{c", "cannot be read"),
    Row("sweep.tau=[1,2", "cannot be read"),
    Row("seed=1,2", "seed=1,2 lists several values without -m"),
    Row("model=minilm,gpt2", "model=minilm,gpt2 lists several values without -m"),
    Row("layers.select=0,1", "Next: -m runs one job for each"),
    # flags
    Row("--foo", "Unknown flag '--foo'"),
    Row("-v", "Unknown flag '-v'"),
    Row("--multirunn", "Did you mean '--multirun'?"),
    Row("--shell-completion", "needs the shell that it is for"),
    Row("-sc", "needs the shell that it is for"),
    Row("--cfg", "--cfg stands without its value, expected job or hydra or all"),
    Row("--cfg jobb", "Unknown value of --cfg 'jobb'. Did you mean 'job'?"),
    Row("--resolve", "--resolve says how --cfg prints"),
    Row("--package x", "--package says how --cfg prints"),
    Row("--config-dir", "--config-dir stands without its value, expected a folder"),
    Row("--config-dir /nope", "The folder of options '/nope' is not there"),
    Row("--config-name nope", "Unknown flag '--config-name'"),
    Row("--config-path /nope", "Unknown flag '--config-path'"),
    Row("--experimental-rerun x", "Unknown flag '--experimental-rerun'"),
    Row("doctor -m model=minilm,gpt2", "Unknown flag '--multirun'"),
    Row("doctor --cfg job", "Unknown flag '--cfg'"),
    Row("doctor model=minilmm", "Did you mean 'minilm'?"),
    Row("help modle", "Did you mean 'model'?"),
    Row("report", "report takes run folders"),
    Row("report --foo", "Unknown option of report '--foo'"),
    Row("report seed=1", "report takes run folders alone"),
    Row("compare", "compare takes two run folders or more, the reference first; got 0"),
    Row("compare a", "'a' is not the folder of a finished run: it is not there"),
    Row("compare --foo a b", "Unknown option of compare '--foo'"),
    # keys
    Row("foo=bar", "Unknown option 'foo'"),
    Row("+foo=bar", "Unknown option 'foo'"),
    Row("++foo=bar", "Unknown option 'foo'"),
    Row("model.nmae=a", "Did you mean 'model.name'?"),
    Row("++model.nmae=a", "Did you mean 'model.name'?"),
    Row("model.finetune.lerning_rate=1", "Did you mean 'model.finetune.learning_rate'?"),
    Row("model.finetune={blokcs:2}", "Did you mean 'model.finetune.blocks'?"),
    Row("model.finetune=3", "model.finetune is 3, expected a mapping with keys of batch_size"),
    Row("+seed=3", "'seed' has a value already, so it needs no +"),
    Row("hydra.job.nam=a", "Unknown option 'hydra.job.nam' of Hydra"),
    Row(
        "hydra.sweeper.params.seed=1,x -m", "hydra.sweeper.params.seed stands in an experiment's file and is not typed"
    ),
    Row("model.attn_implementation=flsh", "Unknown model.attn_implementation 'flsh'"),
    Row("model.attn_implementation=flash_attention_2", "needs flash_attn, which is not installed"),
    Row(
        "model=smollm2 dataset=ag_news model.head=generation model.finetune.blocks=1",
        "model.head=generation reads an answer of several tokens, and fine-tuning teaches the model one token",
    ),
    Row("hydra.foo=1", "Unknown option 'hydra.foo' of Hydra"),
    Row("range.tua=1", "Did you mean 'range.tau'?"),
    Row("++range.tua=1", "Did you mean 'range.tau'?"),
    Row("++edit.dampen.bta=0.5", "Did you mean 'edit.dampen.beta'?"),
    Row("++edit.dampne.beta=0.5", "Did you mean 'dampen'?"),
    Row("++gate.joint.x=1", "Unknown option 'gate.joint.x'"),
    Row("dataset.merge={a:b}", "Next: ++dataset.merge"),
    Row("dataset.merge=[a]", "dataset.merge is ['a'], expected a mapping of texts"),
    Row("dataset.prompt.labels=[a]", "expected a mapping of texts"),
    Row("dataset.prompt.examples=[hello]", "dataset.prompt.examples[0] is 'hello', expected a mapping"),
    Row("dataset.prompt.examples=[{txt:a}]", "Unknown key of dataset.prompt.examples 'txt'. Did you mean 'text'?"),
    Row("dataset.prompt.examples=[{text:a}]", "dataset.prompt.examples[0].label is '', expected some text"),
    Row("sweep.methods=hello", "sweep.methods is 'hello', expected a list of mappings"),
    Row("sweep.methods={a:1}", "expected a list of mappings"),
    Row("sweep.methods=[1]", "sweep.methods[0] is 1, expected a mapping"),
    Row("sweep.methods=[null]", "sweep.methods[0] is null, expected a mapping"),
    Row("sweep.methods=[{foo:[1]}]", "Unknown key of sweep.methods 'foo'"),
    Row("sweep.methods=[{gate:[rnage]}]", "Did you mean 'range'?"),
    Row("sweep.methods=[{tau:1}]", "sweep.methods[0].tau is 1, expected a list of numbers"),
    # types
    *(
        Row(f"seed={value}", f"seed is {shown}, expected a whole number")
        for value, shown in {
            "hello": "'hello'",
            "": "''",
            "null": "null",
            "1.5": "1.5",
            "1e20": "1e+20",
            "true": "true",
            "[1,2]": "[1, 2]",
            "{a:1}": "{'a': 1}",
            "nan": "nan",
            "inf": "inf",
        }.items()
    ),
    Row("++seed=hello", "seed is 'hello', expected a whole number"),
    Row("evaluation.bootstrap=1e20", "evaluation.bootstrap is 1e+20, expected a whole number"),
    Row("evaluation.diagnostics=maybe", "evaluation.diagnostics is 'maybe', expected true or false"),
    Row("quiet=2", "quiet is 2, expected true or false"),
    Row("intervention.strength=[1,2]", "intervention.strength is [1, 2], expected a number"),
    Row("sweep.tau=1", "sweep.tau is 1, expected a list of numbers"),
    Row("sweep.tau={a:1}", "expected a list of numbers"),
    Row("sweep.tau=[null]", "expected a list of numbers"),
    Row("sweep.tau=[[1,2]]", "sweep.tau is [[1, 2]], expected a list of numbers"),
    Row("sweep.tau=[1,[2]]", "expected a list of numbers"),
    Row("sweep.edit=zero", "sweep.edit is 'zero', expected a list of texts"),
    Row("sweep.edit=[[zero]]", "sweep.edit is [['zero']], expected a list of texts"),
    Row("sweep.edit=[null]", "expected a list of texts"),
    Row("sweep.methods=[{edit:[[zero]]}]", "sweep.methods[0].edit is [['zero']], expected a list of texts"),
    Row("sweep.layers=[[[0]]]", "expected a layer's number"),
    Row("layers.select=[[0]]", "expected a layer's number"),
    Row("layers.select=hello", "layers.select is 'hello', expected a layer's number"),
    Row("layers.select={a:1}", "expected a layer's number"),
    Row("layers.select=null", "expected a layer's number"),
    Row("layers.select=1.5", "expected a layer's number"),
    Row("layers.select=true", "expected a layer's number"),
    Row("model.name=null", "model.name is null, expected text, some text"),
    Row("model.path=[a]", "model.path is ['a'], expected text, or null"),
    # bounds
    Row("seed=-1", "seed is -1, expected at least 0"),
    Row("seed=4294967296", "at most 4,294,967,295"),
    Row("evaluation.bootstrap=10000000000000000000000000", "at most 1,000,000"),
    Row("evaluation.level=1", "a share in (0, 1)"),
    Row("intervention.strength=1e308", "intervention.strength is 1e+308"),
    Row("intervention.strength=1e400", "intervention.strength is inf"),
    Row("sweep.strength=[1,nan]", "sweep.strength is nan"),
    Row("sweep.tau=[-1]", "sweep.tau is -1"),
    Row("sweep.top_fraction=[1.5]", "a fraction in [0, 1]"),
    Row("sweep.tau=[]", "sweep.tau is an empty list"),
    Row("layers.select=99999999999999999999999", "expected a layer's number"),
    Row("layers.select=[]", "expected a layer's number"),
    Row("model.max_length=1", "at least 3 tokens"),
    Row("model.max_length=1e20", "model.max_length is 1e+20, expected a whole number"),
    Row("model.batch_size=0", "model.batch_size is 0"),
    Row("model.dtype=int8", "Unknown model.dtype 'int8'"),
    Row("model.finetune.learning_rate=inf", "learning_rate is inf"),
    Row("model.finetune.learning_rate=1e308", "learning_rate is 1e+308"),
    Row("model.finetune.epochs=0", "at least 1"),
    Row("trainer.threads=100000", "trainer.threads is 100000, expected at least 1 and at most 1,024"),
    Row("trainer.threads=0", "trainer.threads is 0"),
    Row("trainer.accelerator=tpu", "Did you mean 'gpu'?"),
    Row("paths.output_dir=", "paths.output_dir is ''"),
    Row("paths.cache_dir='\" \"'", "expected some text"),
    Row("run_name=", "run_name is '', expected some text"),
    Row("dataset.concepts=[a,a]", "dataset.concepts names 'a' twice"),
    Row("dataset.concepts=[a]", "two or more"),
    Row("dataset.concepts=[]", "dataset.concepts is an empty list"),
    Row("dataset.text_column=label", "both 'label', expected two columns"),
    Row("dataset.wheel='\"x @ file:/tmp/x\"'", "expected NAME==VERSION"),
    Row("dataset.wheel='\"x==1 @ file:/tmp/x\"'", "expected NAME==VERSION"),
    Row("model.wheel='\"--index-url=http://x==1\"'", "expected NAME==VERSION"),
    Row("model.wheel='\"git+https://x==1\"'", "expected NAME==VERSION"),
    Row("evaluation.general.documents.wheel='\"./x==1\"'", "expected NAME==VERSION"),
    # what is swept over, and what stands beside it
    Row("intervention.edit=zer sweep.edit=[zero]", "Unknown intervention.edit 'zer'. Did you mean 'zero'?"),
    Row("intervention.gate=rnage sweep.gate=[range]", "Did you mean 'range'?"),
    Row("intervention.strength=nan sweep.strength=[1]", "intervention.strength is nan"),
    Row("sweep.edit=[zeroo]", "Did you mean 'zero'?"),
    Row("sweep.saliency=[maxx]", "Did you mean 'max'?"),
    Row("sweep.control=[nothing]", "Unknown sweep.control 'nothing'"),
    Row("intervention.scope=model", "Next: layers.mode=together"),
    Row("model.record_position=mean", "needs one position to edit"),
    Row("model.confidence=first_token", "needs a head that reads words"),
    # arguments of parts
    Row("range.tau=hello", "range.tau is 'hello', expected a number"),
    Row("range.tau=[1,2]", "range.tau is [1, 2], expected a number"),
    Row("range.tau=null", "range.tau is null, expected a number"),
    Row("range=mixture range.seed=hello", "range.seed is 'hello', expected a whole number"),
    Row("range=mixture range.n_jobs=hello", "range.n_jobs is 'hello'"),
    Row("range=mixture range.restarts=nan", "range.restarts is nan, expected a whole number"),
    Row("range=mixture range.device=hello", "Unknown range.device 'hello'"),
    Row("range=quantile range.q=0.5", "range.q is 0.5"),
    Row("range=posterior range.theta=1", "range.theta is 1"),
    Row("saliency=probe saliency.l1=inf", "saliency.l1 is inf"),
    Row("saliency=random saliency.seed=1e20", "saliency.seed is 1e+20"),
    Row("++edit.dampen.beta=hello", "edit.dampen.beta is 'hello', expected a number"),
    Row("range._target_=null", "range names no _target_"),
    Row("range._target_=neuronlens.ranges.gaussian.Gaussian", "cannot be imported"),
    Row("saliency._target_=nowhere.Part", "saliency._target_ 'nowhere.Part' cannot be imported"),
    # references
    Row("seed=${nope}", "seed refers to ${nope}, and there is no such key"),
    Row("run_name=${nope:1}", "run_name refers to ${nope:...}, and there is no such function"),
    Row("seed=${oc.env:NEURONLENS_NOPE}", "the environment variable NEURONLENS_NOPE, which is not set"),
    Row("run_name=${run_name}", "run_name refers to itself"),
    Row("seed=${model.name}", "expected a whole number"),
    # a multirun is refused before its first job
    Row("-m seed=1,hello", "Job 1 (seed=hello): seed is 'hello'"),
    Row("-m layers.select=0,hello", "Job 1 (layers.select=hello): layers.select is 'hello'"),
    Row("-m model=minilm,gpt3", "Job 1 (model=gpt3): Unknown model option 'gpt3'. Did you mean 'gpt2'?"),
    Row("-m seed=1,2 range.tau=hello", "neuronlens: range.tau is 'hello'"),
    Row("-m experiment=main_table,main_tabel", "Job 1 (experiment=main_tabel): Unknown experiment option"),
    Row("-m seed=range(1,hello)", "cannot be read"),
    Row("-m seed=1,2 model=[a,b]", "model is ['a', 'b']"),
]

DATA = [
    Row("dataset.path=/nope", "dataset.path '/nope' is not there. Expected a table", seconds=2),
    Row("dataset=local", "Dataset 'local' names no source", seconds=2),
    Row(
        "dataset.path={data}/train.csv dataset.text_column=txt", "Unknown column 'txt'. Did you mean 'text'?", seconds=2
    ),
    Row("dataset.path={model}/config.json", "is no table by its name. Expected .csv", seconds=2),
    Row("model.labels=[a,b]", "model.finetune.blocks trains a new one"),
    Row("model=smollm2 model.labels=[a,b]", "model.head=label_logprob has none"),
    Row("dataset.path={data} dataset.label_column=lable", "Did you mean 'label'", seconds=2),
    Row("dataset.path={data} dataset.concepts=[aple,drum]", "Did you mean 'apple'", seconds=2),
    Row("dataset.path={data} ++dataset.merge.aple=x", "Did you mean 'apple'", seconds=2),
    Row("dataset.path={data} dataset.min_samples=500", "Concept 'apple' of dataset 'data' has", seconds=2),
    Row("dataset.path={data} ++dataset.read_options.delimeter=x", "pandas' read_csv does not take so", seconds=2),
    Row("dataset.path={data} ++dataset.read_options.encoding=nope", "unknown encoding", seconds=2),
    *(
        Row("dataset.path={data}", says, seconds=2, scene=scene)
        for scene, says in {
            "no data files": "holds no table, but nothing",
            "empty train": "train.csv is empty: it has no byte",
            "header alone": "The train file of '{data}' is empty",
            "empty test": "The test file of '{data}' is empty",
            "utf-16": "is UTF-16, expected UTF-8",
            "latin-1": "is not UTF-8: byte 0xe9 in line 242",
            "ragged": "has 3 cells in line 242, expected 2",
            "open quote": "opens a quote in row",
            "semicolons": "seems to be separated by ';'",
            "excel": "is a ZIP archive or an Excel sheet",
            "lfs data": "is a Git LFS pointer",
            "two train files": "Expected one file per split",
            "two kinds": "are of several kinds",
            "test of train": "is contained in the others",
            "broken jsonl": "holds no JSON in line 1",
            "broken parquet": "as parquet",
            "lists": "holds a list, expected text",
            "one label": "Concept 'apple' of dataset 'data' has 0 samples",
        }.items()
    ),
]

MODELS = [
    Row("model.path=/nope", "model.path '/nope' holds no config.json: it is not there", seconds=2),
    Row("doctor model.path=/nope", "model.path '/nope' holds no config.json", seconds=2),
    Row("model=local", "Model 'local' names no source", seconds=2),
    Row("model.path=/nope dataset.path=/nope", "dataset.path '/nope' is not there", seconds=2),
    Row("model.path={model}/config.json", "it is a file", seconds=2),
    Row("model.path={model} layers.select=99", "Layer 99 is past the end: the model has 3 layers", seconds=2),
    Row("model.path={model} sweep.layers=[0,3]", "Layer 3 is past the end", seconds=2),
    Row("model.path={model} layers.select=-4", "Layer -4 is past the end", seconds=2),
    Row("model.path={model} intervention.top_count=17", "top_count is 17, expected 0 to 16", seconds=2),
    *(
        Row("model.path={model}", says, seconds=2, scene=scene)
        for scene, says in {
            "no config": "holds no config.json. Expected a folder",
            "config no json": "config.json is no JSON",
            "config a list": "config.json holds no JSON object",
            "no model_type": "names no model_type",
            "fewer layers": "have 3 layers, and its config.json counts 2",
            "no weights": "holds no model.safetensors",
            "pickle": "holds its weights as pickle alone (pytorch_model.bin)",
            "empty weights": "is no whole safetensors file: 0 bytes",
            "cut weights": "is cut off or was changed",
            "cut header": "is no whole safetensors file",
            "lfs weights": "is a Git LFS pointer and not the weights",
            "no safetensors": "is no whole safetensors file",
            "no tokenizer": "holds no tokenizer, so every word would be unknown",
            "empty tokenizer": "tokenizer.json is empty",
            "cut tokenizer": "tokenizer.json is no JSON",
            "lfs tokenizer": "tokenizer.json is a Git LFS pointer",
            "tokenizer without model": "it has no 'model'",
            "lost shard": "lacks other.safetensors, which its index lists",
            "empty index": "lists no weights",
        }.items()
    ),
]

# models whose files are whole and whose weights or tokens are not: found when they are loaded
WEIGHTS = [
    *(
        Row("doctor model=local model.path={model} model.max_length=16", says, seconds=12, scene=scene)
        for scene, says in {
            "nan weight": "holds NaN or infinity in 1 of",
            "infinite weight": "Next: copy it again, or another model.dtype than float32",
            "weight left over": "holds weights that its config.json has no place for: bert.encoder.gain",
            "weight lost": "lacks bert.encoder.layer.0.output.dense.weight; they would be random",
            "weight of another shape": "lacks classifier.weight; they would be random (they are not there, or of another",
            "no attention heads": "Cannot load model",
            "larger tokenizer": "tokens and the model 64 embeddings, expected as many at least",
        }.items()
    ),
]

# run folders: test_run_folders.py damages real ones
FOLDERS = [
    Row("report {here}", "is not the folder of a finished run"),
    Row("compare {here} {data}", "is not the folder of a finished run"),
    Row("report {data}/train.csv", "is not the folder of a finished run"),
]

TABLE = [*CONFIG, *DATA, *MODELS, *WEIGHTS, *FOLDERS]
