# Redis is brought to what the backup holds: missing ids are written, different ones replaced, newer ones stay.
name=$RESTORE_FROM
if [ "$name" = latest ]; then
  name=$(ls "$BACKUP_DIR" | grep -E '^[0-9]{8}T[0-9]{6}Z$' | sort | tail -n 1)
fi
if [ -z "$name" ] || [ ! -d "$BACKUP_DIR/$name" ]; then
  echo "no backup '$name' among: $(ls "$BACKUP_DIR" | tr '\n' ' ')" >&2
  exit 1
fi
# Beside the files that are there, which stay as they are where there is no room for these.
copied="$WORKING_DIR/.restoring"
rm -rf "$copied"
mkdir "$copied"
find "$BACKUP_DIR/$name" -maxdepth 1 -type f ! -name 'kv_store_*' -exec cp -p -t "$copied" {} +
nano-graphrag-redis migrate --from "$BACKUP_DIR/$name" --working-dir "$WORKING_DIR"
find "$copied" -type f -exec mv -f -t "$WORKING_DIR" {} +
rmdir "$copied"
echo "restored $name; restart the workers, which read the graph when they start"
