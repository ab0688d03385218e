# Completion in bash for every mirrorbus program: options and commands as its --help lists them.
_mirrorbus() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} help commands given
  case $before in
    --config) COMPREPLY=($(compgen -f -X '!*.toml' -- "$word") $(compgen -d -- "$word")) ; return ;;
    --keyring | --spool) COMPREPLY=($(compgen -d -- "$word")) ; return ;;
    --cursor | --token-file) COMPREPLY=($(compgen -f -- "$word")) ; return ;;
    --environment) COMPREPLY=($(compgen -W 'dev stg production' -- "$word")) ; return ;;
    --since) COMPREPLY=($(compgen -W 'now start' -- "$word")) ; return ;;
  esac
  help=$("$1" --help 2>/dev/null) || return
  commands=$(sed -n '/^Subcommands:/,$s/^  \([a-z]*\) .*/\1/p' <<<"$help")
  for given in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ -n $given ]] && grep -qxF -- "$given" <<<"$commands" || continue
    help+=$'\n'$("$1" "$given" --help 2>/dev/null)
    commands=
    break
  done
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$(sed -nE 's/^  (-h,)?(--[a-z][a-z-]*).*/\2/p' <<<"$help" | sort -u)" -- "$word"))
  else
    COMPREPLY=($(compgen -W "$commands" -- "$word"))
  fi
}
complete -F _mirrorbus bus-check bus-logger bus-mirror bus-mirrord bus-relayd bus-replay bus-tail
