"""The checks of the configuration: files, every mistake in them, whether there is a rule, and what has no effect."""

from dataclasses import dataclass

from usb_provider.diagnosis.check import Check, Finding, count, sentences
from usb_provider.diagnosis.context import Context


@dataclass(frozen=True, slots=True)
class ConfigurationFacts:
    """The files that were read, every mistake in them, and how many rules there are."""

    files: tuple[str, ...]
    problems: tuple[str, ...]
    rules: int


class ConfigurationCheck(Check[ConfigurationFacts]):
    """Whether the configuration can be used, and has a rule."""

    name = "configuration"

    def read(self, context: Context) -> ConfigurationFacts:
        """What was read before anything else, since the other checks go by it."""
        return ConfigurationFacts(context.files, context.problems, len(context.options.usb.specs))

    def judge(self, facts: ConfigurationFacts) -> Finding:
        """A mistake before a lack."""
        if facts.problems:
            return self.wrong(" ".join(facts.problems), "Repair it; docs/troubleshooting.md explains each sentence.")
        if not facts.files:
            return self.warning(
                "No configuration file was read.",
                "Write /etc/usb-provider/usb-provider.conf, or name a file with --config-file.",
            )
        files = ", ".join(facts.files)
        if not facts.rules:
            return self.warning(
                f"{files} can be used, but has no [usb]device_spec rule, so nothing is offered.",
                'Write rules; "usb-provider devices --suggest" prints them.',
            )
        return self.ok(f"{files} can be used, and has {count(facts.rules, 'rule')}.")


class OptionsCheck(Check[tuple[str, ...]]):
    """Whether every entry of the configuration has an effect."""

    name = "options"

    def read(self, context: Context) -> tuple[str, ...]:
        """What was found when the files were read."""
        return context.without_effect

    def judge(self, facts: tuple[str, ...]) -> Finding:
        """A misspelt name leaves the default in force, and only this tells."""
        if not facts:
            return self.ok("Every option in the configuration files has an effect.")
        return self.warning(sentences(facts), "Correct each name, or delete the line.")
