using System.Collections;
using System.Runtime.InteropServices;
using System.Text;

namespace GpuTasks.Relay;

/// <summary>How the function's process ended.</summary>
internal readonly record struct ChildExit(int? Code, int? Signal)
{
    /// <summary>What a shell would report: the code, or 128 and the signal.</summary>
    internal int ShellCode => Code ?? 128 + Signal ?? 255;

    public override string ToString() => Signal is { } signal ? $"signal {signal}" : $"exit code {Code}";
}

/// <summary>
/// The function's process, and every other process that ends up a child of this one. It waits for all of them on a
/// thread of its own: <see cref="System.Diagnostics.Process"/> would wait for single ones and so leave orphans as zombies.
/// </summary>
internal sealed class ChildProcess
{
    /// <summary>Larger than the C library's types on every architecture, so that their layout need not be known.</summary>
    private const int OpaqueBytes = 1024;

    private readonly TaskCompletionSource<ChildExit> exited = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource allGone = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private ChildProcess(int pid, int output)
    {
        Pid = pid;
        Output = output;
    }

    internal int Pid { get; }

    /// <summary>Read end of the one pipe that is the function's stdout and stderr.</summary>
    internal int Output { get; }

    internal Task<ChildExit> Exited => exited.Task;

    /// <summary>Completes when this process has no child left. As PID 1 that means: the container is empty.</summary>
    internal Task AllGone => allGone.Task;

    /// <summary>Starts the command; the answer has either the process or the error number of the attempt.</summary>
    internal static (ChildProcess? Child, int Error) Start(IReadOnlyList<string> command)
    {
        // Outside a container orphans are adopted all the same, so that behaviour does not differ.
        _ = Native.ControlProcess(Native.SetChildSubreaper, 1, 0, 0, 0);

        // The relay's files are for an agent that may be another user; the function's are its own affair.
        var before = Native.SetUmask(0x12);
        var (pid, output, error) = Spawn(command);
        _ = Native.SetUmask(before);
        if (error != 0)
        {
            return (null, error);
        }

        PreferAsOomVictim(pid);
        var child = new ChildProcess(pid, output);
        new Thread(child.Reap, maxStackSize: 256 * 1024) { IsBackground = true, Name = "reaper" }.Start();
        return (child, 0);
    }

    /// <summary>Signals the function's process group.</summary>
    internal void Signal(int signal)
    {
        if (!exited.Task.IsCompleted)
        {
            _ = Native.Kill(-Pid, signal);
        }
    }

    /// <summary>Ends everything but this process. Outside a container that is the function's process group.</summary>
    internal void KillEverything() => _ = Native.Kill(Environment.ProcessId == 1 ? -1 : -Pid, Native.SigKill);

    /// <summary>
    /// When the container's memory runs out, the kernel takes the largest process. Many small ones of the function must not make
    /// that this one, or the other runs' answers would be lost with it. A tenth of the limit is more than this process ever uses.
    /// </summary>
    private static void PreferAsOomVictim(int pid)
    {
        try
        {
            File.WriteAllText($"/proc/{pid}/oom_score_adj", "100");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It may have ended already, or stand higher already; either is fine.
        }
    }

    private static unsafe (int Pid, int Output, int Error) Spawn(IReadOnlyList<string> command)
    {
        var pipe = stackalloc int[2];
        if (Native.MakePipe(pipe, Native.OpenCloseOnExec) != 0)
        {
            return (0, 0, Marshal.GetLastPInvokeError());
        }

        // Only our end must not block; a function that finds the pipe full waits, as at any terminal.
        _ = Native.ControlFile(pipe[0], Native.SetFileFlags, Native.OpenNonBlocking);

        var actions = stackalloc byte[OpaqueBytes];
        var attributes = stackalloc byte[OpaqueBytes];
        var signals = stackalloc byte[OpaqueBytes];
        _ = Native.InitFileActions(actions);
        _ = Native.AddOpen(actions, 0, "/dev/null", Native.OpenReadOnly, 0);
        _ = Native.AddDuplicate(actions, pipe[1], 1);
        _ = Native.AddDuplicate(actions, pipe[1], 2);
        _ = Native.InitAttributes(attributes);
        _ = Native.SetFlags(attributes, Native.SpawnSetProcessGroup | Native.SpawnSetSignalDefaults | Native.SpawnSetSignalMask);
        _ = Native.SetProcessGroup(attributes, 0);
        // The runtime ignores SIGPIPE and blocks others; a program expects to start with neither.
        _ = Native.AllSignals(signals);
        _ = Native.SetSignalDefaults(attributes, signals);
        _ = Native.EmptySignals(signals);
        _ = Native.SetSignalMask(attributes, signals);

        var pid = 0;
        var arguments = Vector(command.Select(Bytes));
        var environment = Vector(EnvironmentBytes());
        var error = Native.Spawn(&pid, arguments[0], actions, attributes, arguments, environment);
        Free(arguments);
        Free(environment);
        _ = Native.DestroyFileActions(actions);
        _ = Native.DestroyAttributes(attributes);
        _ = Native.Close(pipe[1]);
        if (error != 0)
        {
            _ = Native.Close(pipe[0]);
        }

        return (pid, pipe[0], error);
    }

    /// <summary>The environment as it came, byte for byte: it need not be text of any encoding.</summary>
    private static IEnumerable<byte[]> EnvironmentBytes()
    {
        var own = Bytes(Launch.BoxVariable + "=");
        IEnumerable<byte[]> variables;
        try
        {
            variables = Split(File.ReadAllBytes("/proc/self/environ"));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            variables = Environment.GetEnvironmentVariables().Cast<DictionaryEntry>().Select(v => Bytes($"{v.Key}={v.Value}"));
        }

        return variables.Where(variable => !variable.AsSpan().StartsWith(own));
    }

    private static List<byte[]> Split(byte[] block)
    {
        var parts = new List<byte[]>();
        foreach (var range in block.AsSpan().Split((byte)0))
        {
            if (!block.AsSpan(range).IsEmpty)
            {
                parts.Add(block[range]);
            }
        }

        return parts;
    }

    private static byte[] Bytes(string text) => Encoding.UTF8.GetBytes(text);

    /// <summary>A null-terminated vector of null-terminated strings, as exec takes it.</summary>
    private static unsafe byte** Vector(IEnumerable<byte[]> strings)
    {
        var list = strings.ToList();
        var vector = (byte**)NativeMemory.AllocZeroed((nuint)list.Count + 1, (nuint)sizeof(byte*));
        for (var i = 0; i < list.Count; i++)
        {
            vector[i] = (byte*)NativeMemory.AllocZeroed((nuint)list[i].Length + 1);
            list[i].CopyTo(new Span<byte>(vector[i], list[i].Length));
        }

        return vector;
    }

    private static unsafe void Free(byte** vector)
    {
        for (var i = 0; vector[i] != null; i++)
        {
            NativeMemory.Free(vector[i]);
        }

        NativeMemory.Free(vector);
    }

    private unsafe void Reap()
    {
        while (true)
        {
            int status;
            var pid = Native.WaitForChild(-1, &status, 0);
            if (pid == Pid)
            {
                exited.TrySetResult(Decode(status));
            }
            else if (pid < 0 && Marshal.GetLastPInvokeError() == Native.NoChild)
            {
                allGone.TrySetResult();
                // Commands executed in the container from outside can still leave orphans here; they are in no hurry.
                Thread.Sleep(TimeSpan.FromSeconds(1));
            }
        }
    }

    private static ChildExit Decode(int status) =>
        (status & 0x7f) == 0 ? new ChildExit((status >> 8) & 0xff, null) : new ChildExit(null, status & 0x7f);
}
