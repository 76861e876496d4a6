using System.Text;

namespace GpuTasks.Relay;

/// <summary>The relay's own words, on its stderr: the engine's log of the container. The function's output goes elsewhere.</summary>
internal static class Words
{
    internal static unsafe void Say(string text)
    {
        var bytes = Encoding.UTF8.GetBytes($"relay: {text}\n");
        fixed (byte* start = bytes)
        {
            // Nobody may be reading; that must not disturb a run.
            _ = Native.Write(2, start, (nuint)bytes.Length);
        }
    }
}
