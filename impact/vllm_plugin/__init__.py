"""The entry point of the group `vllm.general_plugins`: makes compressed checkpoints known to vLLM, in every process."""

from impact import architectures

ARCHITECTURES = tuple(architecture.compressed_class for architecture in architectures.ARCHITECTURES.values())


def register() -> None:
    """Registers the native model with vLLM, which imports it when it is needed.

    Importing this package has registered the configs with transformers already.
    """
    from vllm import ModelRegistry

    for architecture in ARCHITECTURES:
        if architecture not in ModelRegistry.get_supported_archs():
            ModelRegistry.register_model(architecture, "impact.vllm_plugin.model:ImpactForCausalLM")
