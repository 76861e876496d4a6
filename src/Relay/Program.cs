using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text.Json;
using GpuTasks.Relay;

const int UsageError = 64;

if (Launch.Parse(args) is not { } launch)
{
    Words.Say("usage: relay [--box FOLDER] -- COMMAND [ARGUMENT...]");
    return UsageError;
}

// Files of the relay are for an agent that may run as another user than the container.
_ = Native.SetUmask(0);
try
{
    return await RunAsync(new Box(launch.BoxPath), launch.Command);
}
catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException or SocketException)
{
    Words.Say($"the box {launch.BoxPath} cannot be used: {e.Message}");
    return UsageError;
}

static async Task<int> RunAsync(Box box, IReadOnlyList<string> command)
{
    using var instance = new Instance(box, box.ReadConfig(), new MemoryCgroup());
    using var server = new ControlServer(box, instance);
    server.Start();

    // Registered before the function starts, so that a stop that comes early is not lost.
    using var term = PosixSignalRegistration.Create(PosixSignal.SIGTERM, signal =>
    {
        signal.Cancel = true;
        instance.Stop();
    });
    int[] passedOn = [Native.SigHangup, Native.SigInterrupt, Native.SigQuit, Native.SigUsr1, Native.SigUsr2];
    var registrations = passedOn.Select(number => PosixSignalRegistration.Create((PosixSignal)number, signal =>
    {
        signal.Cancel = true;
        instance.Forward(number);
    })).ToList();

    var statusFile = instance.KeepStatusFileAsync();
    instance.Start(command);
    var code = await instance.Stopped;
    await statusFile;
    registrations.ForEach(registration => registration.Dispose());
    return code;
}
