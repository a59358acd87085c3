# A backup is a working directory: the graph and the vectors as they are, the rest from Redis as JSON files.
# It has its name only once it is whole.
stamp=$(date -u +%Y%m%dT%H%M%SZ)
partial="$BACKUP_DIR/.partial-$stamp"
rm -rf "$BACKUP_DIR"/.partial-*
mkdir "$partial"
# `{} +`, not `{} \;`: with that, find succeeds where cp failed.
find "$WORKING_DIR" -maxdepth 1 -type f ! -name 'kv_store_*' -exec cp -p -t "$partial" {} +
nano-graphrag-redis export --to "$partial"
# From a server that lost its volume, or of another workspace: backups without documents would push out the good ones.
if [ ! -e "$partial/kv_store_full_docs.json" ] && ls "$BACKUP_DIR"/[0-9]*Z/kv_store_full_docs.json > /dev/null 2>&1; then
  rm -rf "$partial"
  echo "Redis holds no document, and earlier backups do: no backup was made, and none removed" >&2
  exit 1
fi
sync
mv "$partial" "$BACKUP_DIR/$stamp"
ls "$BACKUP_DIR" | grep -E '^[0-9]{8}T[0-9]{6}Z$' | sort | head -n "-$BACKUP_KEEP" | while read -r old; do
  rm -rf "${BACKUP_DIR:?}/$old"
done
echo "backup $stamp is whole; kept: $(ls "$BACKUP_DIR" | tr '\n' ' ')"
