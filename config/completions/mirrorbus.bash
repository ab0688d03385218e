# Completion in bash for every mirrorbus program: options and commands as its --help lists them.
_mirrorbus() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} help
  case $before in
    --config) COMPREPLY=($(compgen -f -X '!*.toml' -- "$word") $(compgen -d -- "$word")) ; return ;;
    --keyring) COMPREPLY=($(compgen -d -- "$word")) ; return ;;
    --environment) COMPREPLY=($(compgen -W 'dev stg production' -- "$word")) ; return ;;
    --since) COMPREPLY=($(compgen -W 'now start' -- "$word")) ; return ;;
  esac
  help=$("$1" --help 2>/dev/null) || return
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$(grep -oE -- '--[a-z][a-z-]*' <<<"$help" | sort -u)" -- "$word"))
  else
    COMPREPLY=($(compgen -W "$(sed -n '/^Subcommands:/,$s/^  \([a-z]*\) .*/\1/p' <<<"$help")" -- "$word"))
  fi
}
complete -F _mirrorbus bus-check bus-logger bus-mirror bus-mirrord bus-relayd bus-replay bus-tail
