using System.Globalization;

namespace GpuTasks.Echo;

/// <summary>What the environment says; README.md lists the names.</summary>
internal static class Settings
{
    internal static int Port => (int)Number("FC_CUSTOM_LISTEN_PORT", 9000);

    internal static string ListenOn => Text("LISTEN_ON", "0.0.0.0");

    internal static bool NeverListen => Text("LISTEN", "") == "never";

    internal static TimeSpan ListenAfter => Seconds("LISTEN_AFTER_SECONDS");

    internal static TimeSpan ReadyAfter => Seconds("READY_AFTER_SECONDS");

    internal static int? ExitAtStart => Text("START_EXIT_CODE", "") is { Length: > 0 } code ? int.Parse(code, CultureInfo.InvariantCulture) : null;

    internal static int InitializeStatus => (int)Number("INITIALIZE_STATUS", 200);

    internal static TimeSpan InitializeTakes => Seconds("INITIALIZE_SECONDS");

    internal static int PreStopStatus => (int)Number("PRE_STOP_STATUS", 200);

    internal static TimeSpan PreStopTakes => Seconds("PRE_STOP_SECONDS");

    internal static string CountFile => Text("COUNT_FILE", "");

    internal static string TraceFile => Text("TRACE_FILE", "");

    private static string Text(string name, string otherwise) =>
        Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : otherwise;

    private static double Number(string name, double otherwise) =>
        double.Parse(Text(name, otherwise.ToString(CultureInfo.InvariantCulture)), CultureInfo.InvariantCulture);

    private static TimeSpan Seconds(string name) => TimeSpan.FromSeconds(Number(name, 0));
}
