"""`partsong completion`: prints a script that completes commands, options and names in a shell."""

from typing import Annotated, Literal

from cyclopts import Parameter

# In bash, a colon separates words. The ids of models have colons, so the words are joined before candidates are looked
# for. Readline replaces only what stands behind the last colon, so the part before it is removed from the candidates.
COLONS = r"""
_partsong_with_colons() {
  local typed="${COMP_LINE:0:COMP_POINT}" word
  local -a joined=()
  for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
    if (( ${#joined[@]} )) && [[ $word == :* || ( ${joined[-1]} == *: && ( -n $word || $typed == *: ) ) ]]; then
      joined[-1]+="$word"
    else
      joined+=("$word")
    fi
  done
  local -a COMP_WORDS=("${joined[@]}")
  local COMP_CWORD=$(( ${#joined[@]} - 1 ))
  _partsong
  local before="${joined[-1]%"${joined[-1]##*:}"}"
  [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *: ]] && compopt -o nospace
  COMPREPLY=("${COMPREPLY[@]#"$before"}")
}

complete -F _partsong_with_colons partsong
"""

# The file may have any name in zsh's $fpath, and the script may also be read with `source`.
LOADED = """
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _cyclopts_partsong "$@"
else
  compdef _cyclopts_partsong partsong
fi
"""
ADDED = {"bash": COLONS, "zsh": LOADED, "fish": ""}


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="The shell.")],
    /,
) -> int:
    """Print a script that completes commands, options and names in a shell."""
    # The application names this module, so it can be imported only when the command runs.
    from partsong.cli.main import command_line

    print(command_line().generate_completion(prog_name="partsong", shell=shell) + ADDED[shell], end="")
    return 0
