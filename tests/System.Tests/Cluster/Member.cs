using System.Diagnostics;

namespace GpuTasks.SystemTests;

/// <summary>
/// One process of a cluster, with what a service manager does for it: it is started again a moment after it ended, unless
/// its end was asked for.
/// </summary>
internal sealed class Member(string name, string log, string[] command) : IAsyncDisposable
{
    private readonly Lock gate = new();
    private int id;
    private bool wanted;
    private Task keeping = Task.CompletedTask;

    /// <summary>Its name in the cluster.</summary>
    public string Name => name;

    /// <summary>File of its output over all its lives.</summary>
    public string Log => log;

    /// <summary>How often it ended without being asked to.</summary>
    public int Ends { get; private set; }

    /// <summary>Id of the process; 0 between two lives.</summary>
    public int Id
    {
        get
        {
            lock (gate)
            {
                return id;
            }
        }
    }

    /// <summary>Starts it, and again whenever it ends.</summary>
    public void Start()
    {
        lock (gate)
        {
            wanted = true;
            if (keeping.IsCompleted)
            {
                keeping = Task.Run(KeepAsync);
            }
        }
    }

    /// <summary>A signal to the process as it is now.</summary>
    public void Signal(int signal)
    {
        if (Id is > 0 and var current)
        {
            Signals.Send(current, signal);
        }
    }

    /// <summary>Ends it for good, or until it is started again.</summary>
    /// <param name="signal">SIGTERM or SIGKILL.</param>
    public async Task EndAsync(int signal)
    {
        lock (gate)
        {
            wanted = false;
        }

        Signal(signal);
        await keeping.WaitAsync(TimeSpan.FromSeconds(60));
    }

    public async ValueTask DisposeAsync()
    {
        Signal(Signals.Continue);
        await EndAsync(Signals.Kill);
    }

    private async Task KeepAsync()
    {
        while (true)
        {
            Process current;
            lock (gate)
            {
                if (!wanted)
                {
                    return;
                }

                // A shell puts the output into a file, which lasts and needs no reader, and gives its place to the program.
                var start = new ProcessStartInfo("/bin/sh", ["-c", "exec \"$@\" >>\"$MEMBER_LOG\" 2>&1 </dev/null", "sh", .. command]);
                start.Environment["MEMBER_LOG"] = log;
                start.Environment["DOTNET_gcServer"] = "0";
                current = Process.Start(start)!;
                id = current.Id;
            }

            await current.WaitForExitAsync();
            lock (gate)
            {
                id = 0;
                Ends += wanted ? 1 : 0;
            }

            current.Dispose();
            await Task.Delay(500);
        }
    }
}
