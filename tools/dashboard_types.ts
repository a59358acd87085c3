// What a dashboard's JSON has to be: Grafana's own types, with the options of the panels that ours has.
import type { AnnotationQuery, Dashboard, DataQuery, FieldConfig, Panel, RowPanel } from "@grafana/schema";
import type { Options as StatOptions } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type {
  FieldConfig as LineConfig,
  Options as LineOptions,
} from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

// JSON has the value of an enum, not its name.
type Plain<T> = T extends string
  ? `${T}`
  : T extends number
    ? T | (`${T}` extends `${infer N extends number}` ? N : never)
    : T extends object
      ? { [K in keyof T]: Plain<T[K]> }
      : T;

// Grafana fills in the options that are left out.
type Optional<T> = T extends object ? { [K in keyof T]?: Optional<T[K]> } : T;

// Those of the Prometheus data source, which the package does not have.
interface Query extends DataQuery {
  expr: string;
  legendFormat: string;
}
type Mark = AnnotationQuery & { expr: string; step: string; titleFormat: string; textFormat: string };

type Drawn<Type extends string, Options, Custom> = Omit<Panel, "type" | "options" | "targets" | "fieldConfig"> & {
  type: Type;
  options: Optional<Options>;
  targets: Query[];
  fieldConfig: { defaults: Omit<FieldConfig, "custom"> & { custom?: Custom }; overrides: [] };
};

export type Board = Plain<
  Omit<Dashboard, "panels" | "annotations"> & {
    annotations: { list: Mark[] };
    panels: (RowPanel | Drawn<"timeseries", LineOptions, LineConfig> | Drawn<"stat", StatOptions, never>)[];
  }
>;
